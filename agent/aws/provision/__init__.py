"""How a device gets its identity at AWS IoT Core, renews it, and what it may do there.

==============  ==========================================================================================
module          what it holds
==============  ==========================================================================================
``policy``      IoT policy documents: read, and asked whether they allow something (pure)
``acl``         a policy as access rules for mosquitto (pure)
``keys``        keys, requests to sign them, what a certificate says
``identity``    fleet provisioning over a transport
``home``        where an identity lives on disk, and how it changes in one step
``visitor``     a client that tries what a broker allows and takes nothing
``prove``       the proof that an identity works
``template``    the configuration that is written
``enroll``      an identity for a new device, from files or by claim
``rotate``      a new certificate for the same thing
``operation``   that as a job, between the jobs client and ``rotate``
``errors``      what can go wrong
==============  ==========================================================================================
"""
