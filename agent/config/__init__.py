"""Every key that a person can set, in one place: frozen structs, each value bounded once.

================  ================================================================================================
``load``          the whole configuration: file, environment, secrets; everything that is wrong with it, with its path
``reload``        what a changed configuration asks of a running agent (pure)
``strict``        parsed text → structs, or errors that name the place and the nearest known key
``environment``   ``VERGE_…`` variables over a file's values
``bounds``        the kinds of numbers and texts, each with its least and its most
``secrets``       certificates, keys and passwords in files; passwords over links that others can read
``transports``    ``[transports.X]``: MQTT brokers, AWS IoT Core, the outbox
``iotcore``       of a transport to AWS IoT Core: ways in, quotas, batches
``outbox``        what waits on disk for a broker
``streams``       ``[streams.X]`` and ``[limits]``: where frames come from and where results go
``models``        ``[models.X]``: what is said of a model, in manifests and recipes too
``deployments``   ``[deployments]`` and ``[artifacts]``: who may deploy, how files are fetched
``edgeapi``       ``[edge_manager]``, ``[lookout]``, ``[serving]``: interfaces for programs that call
``ipc``           ``[ipc]``: the socket that components of Greengrass talk to
``vault``         ``[secrets]``: where components' secrets come from
``aws``           ``[aws]`` and ``[greengrass]``: the device's account and its data plane
================  ================================================================================================
"""
