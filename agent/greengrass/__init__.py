"""AWS IoT Greengrass: everything that a recipe or a deployment touches.

===============  ===================================================================================
package          what it holds
===============  ===================================================================================
``recipes``      component recipes: reading, versions, platforms, variables, configuration
``artifacts``    a component's files: stores, a cache by digest, unpacking
``components``   other people's programs: the lifecycle table, processes, logs
``catalog``      the components that every agent offers: Greengrass's for machine learning, our runtimes
``deployments``  the second sentence: documents, the resolver, the transaction, golden frames, trust
``cloud``        Amazon's data plane: components, artifacts and large documents, where it is asked
``fleet``        the fleet status messages: how every component is, and when that is published
``wiring``       the deployment side put together
===============  ===================================================================================
"""
