"""AWS IoT Core, or any MQTT 5 broker with mutual TLS in its place, behind the seam of every transport.

===============  ==================================================================================
module           what it holds
===============  ==================================================================================
``transport``    ``IotCoreTransport``: checks, batches, accounts
``options``      what it can be told, IoT Core's limits among it
``link``         the connection as the event loop sees it; ``sending`` and ``receiving`` are its halves
``client``       awscrt's client, and what it tells as events; nothing above it knows awscrt
``settings``     what awscrt is told: from the options to its objects
``handover``     from awscrt's thread to the event loop, in order and bounded
``events``       what is handed over
``bucket``       what may be sent in a second (pure)
``rules``        what IoT Core takes of one message or filter (pure)
``batching``     several messages in one publish, and what a receiver gets (pure)
``reasons``      what awscrt's errors and IoT Core's reason codes mean (pure)
===============  ==================================================================================

What IoT Core is not: there is no QoS 2, which is lowered to 1; and topics under ``$aws/rules/`` reach rules only.
"""
