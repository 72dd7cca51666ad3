"""A connected pub/sub bus behind one seam: ``Transport``.

=================  ================================================================================
module             what it holds
=================  ================================================================================
``transport``      the seam: ``Message``, ``LinkState``, ``Transport``
``factory``        the table of transports by type, and ``create``
``client``         ``BrokerTransport``: subscribers and what is accepted; ``MqttTransport``, by paho
``sending``        the sending half of every connection: the send queue and who owns what in it
``receiving``      the receiving half of every connection: subscriptions, acknowledgements
``connection``     paho's connection: connects, is served by the event loop, connects again
``paho``           a paho client for the two halves: options, TLS, properties
``kept``           the filters of an earlier process's session, in a file
``subscriptions``  which filters the broker should hold for us and which it holds (pure)
``versions``       which version of MQTT to speak (pure)
``history``        what became of a transport's connections (pure)
``limits``         what the broker takes (pure)
``backoff``        how long to wait between attempts (pure)
``versions``       which version of MQTT to speak (pure)
``history``        how often a link was lost, and what that looks like (pure)
``reasons``        why there is no connection, with a hint (pure)
``rpc``            requests and their responses
``visit``          a second client beside the agent, for the command line
``probe``          a client that finds out what a broker allows
``strangers``      whether a broker keeps strangers out
``doors``          where else a broker on this machine listens
``replies``        where answers may go (pure), and who may not be answered
``iotcore``        AWS IoT Core, with its limits
``greengrass``     a Greengrass nucleus, for an agent that is one of its components
``outbox``         an outbox on disk before any of them
=================  ================================================================================
"""
