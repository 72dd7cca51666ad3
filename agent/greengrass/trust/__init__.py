"""Trust: who may change the device.

================  ==========================================================================
module            what it holds
================  ==========================================================================
``policy``        who may deploy: by link, by signature, by the owner's rule
``watch``         whether the broker of deployments keeps strangers out, tried at each connection
``signatures``    signed documents and recipes: the envelope, what is signed, what is claimed
``order``         whether a document's turn has come, is over, or never comes
``record``        what was accepted so far, on disk
``keys``          public keys of those who may sign
``keylist``       the key list: who may deploy what, and how one list takes another's place
``freshness``     how long there was no signed word, and what follows from it
``keyring``       the list and the freshness in use: on disk, on topics, by jobs
================  ==========================================================================

``policy``, ``signatures``, ``order``, ``keylist`` and ``freshness`` are pure: they decide, and touch nothing.
"""
