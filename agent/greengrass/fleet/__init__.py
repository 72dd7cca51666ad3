"""What a device publishes for its fleet: component states, as Greengrass's fleet status messages.

=============  ======================================================
``service``    the messages of this device, from its events to the broker
``health``     which messages are due after an event: the pure core
``report``     what a message contains, as values
``messages``   a message as JSON, split when it is too long for one
=============  ======================================================
"""
