"""Greengrass's IPC: the socket through which components talk to the agent, with their own SDKs.

==================  ====================================================================================
module              what it holds
==================  ====================================================================================
``connection``      one connection without a socket: handshake, streams, protocol errors (pure)
``server``          the socket: clients, what each may hold, requests to operations and back
``operations``      what an operation is, and what its handler is handed
``shapes``          every operation of the model: its errors, its events
``errors``          the error shapes
``authorization``   accessControl: what a component may do (pure, but for the log of refusals)
``topics``          Greengrass's own rules of local topics, and who subscribed to what (pure)
``pubsub``          operations: local publish and subscribe
``mqttproxy``       operations: IoT Core over the agent's own connection
``lifecycle``       operations: a component's own state, its say in deployments
``pausing``         operations: components held still
``shadows``         operations: local shadows
``local``           operations: the components and deployments of the device, for greengrass-cli
``secrets``         operations: a component's secrets
``metrics``         operations: what AWS's own components measure
``absent``          operations: refused, and whose a token is
``configuration``   operations: configurations read, watched, and each component's own updated
``tokens``          the token files of greengrass-cli
``serving``         which operations are served on what
==================  ====================================================================================
"""
