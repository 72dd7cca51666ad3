"""``aws.greengrass.StreamManager``: streams of messages that components append, read, and have exported.

================  =================================================================================================
module            what it holds
================  =================================================================================================
``wire``          frames, CBOR, operations and status codes: bytes in, frames out (pure)
``definition``    what a stream and an export are, and the limits of each member (pure)
``options``       the component's configuration, checked (pure)
``store``         streams and messages in SQLite, on disk or in memory, by one thread
``requests``      an operation in, its response out
``exports``       a task for each export: batches, positions, back-off
``gate``          so many deliveries at once, the most urgent first
``destinations``  Kinesis, S3, SiteWise and HTTP servers, each taking a batch
``server``        the TCP server on the loopback: handshake, requests in flight
``running``       store, requests, exports and server of one configuration, opened and closed together
``manager``       ``StreamManager``, the service: applies a configuration
================  =================================================================================================

The wire is that of the public clients for Python, Node and Java (protocol versions 1.0.0 and 1.1.0).  Only ``wire``
needs cbor2, and is imported when the service is deployed: a codec of our own would have to withstand what any process
of the machine sends, and cbor2 is small, well kept and compiled.
"""
