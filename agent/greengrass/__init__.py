"""AWS IoT Greengrass: recipes, artifacts, components, deployments, Amazon's data plane and the fleet's messages."""
