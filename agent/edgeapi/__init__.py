"""Inference for programs that call: the interfaces of retired edge agents and of model servers, over the one door.

==================  ==============================================================================================
module              what it holds
==================  ==============================================================================================
``protos``          the messages of each interface
``server``          a gRPC server: tables of rpcs in, status codes out
``sockets``         the Unix sockets and the ports that servers listen at
``sharedmemory``    segments of memory that clients share
``models``          the models that clients load by name
``buckets``         a client of S3's
``edge_manager``    SageMaker Edge Manager's agent
``lookout``         Lookout for Vision's edge agent
``openinference``   the Open Inference Protocol, version 2
``surroundings``    the agent's other parts, as the servers see them
``needed``          the servers imported, or what to install for them
``wiring``          the servers put together
``serving``         those of the Open Inference Protocol put together
==================  ==============================================================================================

Imported only where a server is asked for: grpcio, protobuf and h11 are the extra ``api``.
"""
