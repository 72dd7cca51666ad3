"""Amazon's event stream, over which Greengrass's nucleus and its components talk: what both ends need of it.

==================  ====================================================================================
module              what it holds
==================  ====================================================================================
``frames``          bytes ↔ messages (pure)
``rpc``             the kinds of messages of a connection, and how they are written (pure)
==================  ====================================================================================
"""
