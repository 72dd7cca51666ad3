"""The nucleus of AWS IoT Greengrass behind the seam of every transport, for an agent that is one of its components.

==================  ===============================================================================
module              what it holds
==================  ===============================================================================
``client``          ``GreengrassTransport``
``connection``      connects to the nucleus's socket, and again; requests and messages there
``subscriptions``   the filters that the nucleus is asked for, each on its stream
``streams``         the client's side of a connection, without a socket: bytes in, events out (pure)
``operations``      messages as requests, events as messages (pure)
``places``          which topic is local and which is IoT Core's, and what either takes (pure)
``reasons``         why there is no connection, and what a nucleus's errors mean (pure)
==================  ===============================================================================

What a nucleus is not: a broker.  It has no last will and no session, retained messages and properties of messages only
where IoT Core carries them, no acknowledgement of what it delivers (all of it has QoS 0) and no shared subscription.

awsiotsdk's client would do the talking too.  It takes 7.5 MiB and 90 to 220 ms to import (measured beside paho's
transport, x86-64, CPython 3.11) and has threads of its own, from which every message would have to be handed over; the
frames and messages are there anyway for the socket that the agent serves, and what is added to them takes 0.2 MiB.
"""
