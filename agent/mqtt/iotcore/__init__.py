"""AWS IoT Core, or any MQTT 5 broker with mutual TLS in its place, behind the seam of every transport.

==================  ===============================================================================
module              what it holds
==================  ===============================================================================
``client``          ``IotCoreTransport``: checks, batches, Basic Ingest
``connection``      the connection as the event loop sees it, and the way to there from awscrt's
                    thread, in order and bounded
``awscrt``          awscrt's client and its events; nothing above it knows awscrt
``awscrt_options``  the options as awscrt's objects
``quotas``          what IoT Core takes of one message or filter, and of all in a second (pure)
``batching``        several messages in one publish, and what a receiver gets (pure)
``reasons``         what awscrt's errors and IoT Core's reason codes mean (pure)
==================  ===============================================================================

What IoT Core is not: there is no QoS 2, which is lowered to 1; and topics under ``$aws/rules/`` reach rules only.
"""
