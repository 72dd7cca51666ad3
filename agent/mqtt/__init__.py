"""A connected pub/sub bus behind one seam: ``Transport``.

===============  ==================================================================================
module           what it holds
===============  ==================================================================================
``base``         the seam: ``Message``, ``LinkState``, ``Transport``
``factory``      ``create``: a transport from its options
``options``      what a transport can be told
``mqtt``         MQTT 3.1.1 and 5 over TCP, TLS and WebSockets: subscribers and accounts
``iotcore``      AWS IoT Core, with its limits
``spool``        an outbox on disk before any of them
``memory``       the same promises inside one process
``link``         the task that connects and reconnects; ``sending`` and ``receiving`` are its halves
``connecting``   an attempt in a thread, for it blocks
``serving``      a connection served by the event loop
``client``       a paho client set up from options; ``tls`` and ``properties`` are what it needs
``outbox``       what is published and not delivered (pure)
``session``      what the broker should hold for us and what it holds (pure)
``filters``      topics, filters and who is called for a topic (pure)
``limits``       what the broker takes (pure)
``backoff``      how long to wait between attempts (pure)
``reasons``      why there is no connection, with a hint (pure)
===============  ==================================================================================
"""
