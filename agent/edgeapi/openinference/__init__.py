"""The Open Inference Protocol, version 2, as Triton's and KServe's clients speak it.

=============  =======================================================================================
module         what it holds
=============  =======================================================================================
``tensors``    what is asked and answered, and the protocol's types of data (pure)
``body``       the same as a body of HTTP or MQTT: JSON, with binary data behind it (pure)
``messages``   the same as gRPC's messages (pure)
``models``     what the models of the plane are called and described as (pure)
``service``    live, ready, metadata, infer: over the one door to inference
``replies``    an answer with a status, as HTTP has it and MQTT borrows it
``paths``      which path of HTTP means what (pure)
``http``       the server over HTTP
``rpcs``       the rpcs over gRPC
``mqtt``       requests and retained topics over MQTT
=============  =======================================================================================
"""
