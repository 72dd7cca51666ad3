"""``aws.greengrass.ShadowManager``: thing shadows on the device, and beside those of IoT Core.

=============  ====================================================================================
module         what it holds
=============  ====================================================================================
``names``      which shadow is meant; its topics (pure)
``document``   a shadow: updates merged, versions, deltas, every message (pure)
``merging``    two copies of a shadow and what they last had in common: who takes over what (pure)
``options``    what the component's configuration says
``store``      shadows on disk
``manager``    get, update, delete, list, over local pub/sub too
``sync``       the copies in IoT Core, over MQTT
``errors``     what can be wrong with a request
=============  ====================================================================================
"""
