"""The identity of a device at AWS IoT Core: how it is made, proved and renewed.

==============  ==========================================================================================
module          what it holds
==============  ==========================================================================================
``keys``        keys, requests to sign them, the facts of a certificate
``identity``    fleet provisioning over a transport
``home``        where an identity lives on disk, and how it changes in one step
``prove``       the proof that an identity works
``enroll``      an identity for a new device, from files or by claim, and its configuration
``rotate``      a new certificate for the same thing, also as a job
``errors``      the errors of provisioning
==============  ==========================================================================================
"""
