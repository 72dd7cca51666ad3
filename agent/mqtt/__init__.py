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
``subscriptions``  which filters the broker should hold for us and which it holds (pure)
``limits``         what the broker takes (pure)
``backoff``        how long to wait between attempts (pure)
``reasons``        why there is no connection, with a hint (pure)
``rpc``            requests and their responses
``visit``          a second client beside the agent, for the command line
``probe``          a client that finds out what a broker allows, for the doctor
``iotcore``        AWS IoT Core, with its limits
``outbox``         an outbox on disk before any of them
=================  ================================================================================
"""
