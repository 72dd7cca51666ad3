"""What a device publishes for its fleet: component states and Greengrass health messages."""
