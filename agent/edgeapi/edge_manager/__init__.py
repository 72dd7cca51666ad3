"""SageMaker Edge Manager's agent, as its clients know it.

=============  =======================================================================================
module         what it holds
=============  =======================================================================================
``service``    the rpcs, and which status each error is
``tensors``    the interface's tensors ↔ the plane's (pure)
=============  =======================================================================================
"""
