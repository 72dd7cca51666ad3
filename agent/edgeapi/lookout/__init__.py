"""Lookout for Vision's edge agent, as its clients know it.

=============  =======================================================================================
module         what it holds
=============  =======================================================================================
``states``     a model's status, and what may happen to it in each (pure)
``models``     the anomaly models: components that are deployed, and those of the configuration
``bitmaps``    pictures as clients give them, and where they want masks (pure but for segments)
``answers``    what a model says, as the interface's response (pure)
``service``    the rpcs, and which status each error is
=============  =======================================================================================
"""
