"""SageMaker Edge Manager's agent, as its clients know it.

=============  =======================================================================================
module         what it holds
=============  =======================================================================================
``service``    the rpcs, and which status each error is
``tensors``    the interface's tensors ↔ the plane's (pure)
``package``    what SageMaker's packaging wrote beside a model
``capture``    what clients have captured, to the disk or to S3
``capturing``  captures put together
``heartbeat``  the device in its fleet
``settings``   AWS's own JSON file and parameters, as options (pure)
=============  =======================================================================================
"""
