"""AWS IoT Jobs, both ends, and the named shadow of single-thing deployments.

=================  ================================================================================
module             what it holds
=================  ================================================================================
``options``        what the device's side can be told
``topics``         the topics of Jobs, built and read
``messages``       the payloads of Jobs as frozen values
``pace``           how long a conversation waits (pure)
``events``         what the conversation hears and what it wants done
``tables``         its rules
``execution``      the device's side of the conversation: a state machine with room for one job (pure)
``wording``        between the conversation's values and the wire (pure)
``client``         the conversation over a transport
``shadow_events``  what the deployment shadow hears and wants done
``shadow``         the device's side of the deployment shadow (pure)
``shadow_client``  that machine over a transport
``service``        the service's side: queue, roll-out, store, and a program that serves any broker
=================  ================================================================================
"""
