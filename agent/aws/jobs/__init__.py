"""AWS IoT Jobs, both ends, and the named shadow of single-thing deployments.

=============  ==================================================================================================
module         what it holds
=============  ==================================================================================================
``topics``     the topics of Jobs and of the deployment shadow, built and read
``messages``   the payloads of Jobs as frozen values
``retry``      one open request, repeated until it is answered: what both machines of a device share (pure)
``execution``  the device's side of Jobs: a state machine with room for one job, its events and tables (pure)
``shadow``     the device's side of the deployment shadow (pure)
``codec``      between the values of both machines and their topics and payloads (pure)
``client``     both machines over a transport: ``JobsClient`` and ``ShadowClient``
``service``    the service's side: queue, roll-out, store, and a program that serves any broker
=============  ==================================================================================================
"""
