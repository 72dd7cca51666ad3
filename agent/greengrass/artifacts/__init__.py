"""Artifacts: the files a component version consists of, from where they are to where they are used.

================  ==============================================================================
module            what it holds
================  ==============================================================================
``fetch``         all artifacts of a deployment: room first, then in parallel, all or none; the progress
``store``         the seam to the places artifacts come from, and what it promises of each of them
``stores``        ``file`` and ``https``; strangers come by the entry-point group ``verge.stores``
``request``       an artifact that is to stand somewhere
``inventory``     what came, by which it is checked before every start
``retry``         what cannot be reached is tried again, until its time is up
``registry``      scheme → store, imported when it is first asked for
``partial``       a download under way: bounded, hashed, resumable, visible only when whole
``rate``          the floor of a download's rate
``cache``         every artifact once, under its digest; the least recently used goes first
``unpack``        zip → folder, as ``zipplan`` (pure) decides it
``uri``           an artifact's URI: its scheme, its file name, how it is shown
``digest``        SHA-256 in Greengrass's spelling and in ours
``space``         room on the disk, asked for before it is needed
``errors``        everything that can be wrong, under Greengrass's own codes
================  ==============================================================================
"""
