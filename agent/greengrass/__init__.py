"""AWS IoT Greengrass: everything that a recipe or a deployment touches.

===============  ===================================================================================
package          what it holds
===============  ===================================================================================
``recipes``      component recipes: reading, versions, platforms, variables, configuration
``artifacts``    a component's files: stores, a cache by digest, unpacking
``components``   other people's programs: the lifecycle table, processes, logs
``catalog``      the components that every agent offers: Greengrass's for machine learning, our runtimes
``deployments``  the second sentence: documents, the resolver, the transaction, golden frames
``trust``        who may change the device: links, signatures, keys
``cloud``        Amazon's data plane: components, artifacts and large documents, where it is asked
``fleet``        the fleet status messages: how every component is, and when that is published
``services``     what AWS's own components do, done by the agent
``ipc``          the socket through which components talk to the agent
``errors``       what can be wrong with a deployment, under Greengrass's own codes
``wiring``       the deployment side put together
===============  ===================================================================================
"""
