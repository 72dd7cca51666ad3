"""The outbox that any transport can have: what is published is on disk before it is on the wire.

===============  ==================================================================================
module           what it holds
===============  ==================================================================================
``outbox``       ``Outbox``: the wrapper, itself a ``Transport``, and what it says of itself
``record``       one message in the outbox, its number and rank, how it is written down (pure)
``scheduler``    what is sent next: ranks, live against replayed, read-ahead (pure)
``store``        the thread that writes; the disk, and the memory in its place while it fails
``database``     one SQLite database: what is kept, superseded, dropped, too old
``recovery``     what can be wrong with a file, and what is salvaged from a broken one
===============  ==================================================================================

What is promised:

- **Acknowledged** is a message whose ``on_delivered`` was called with None: it is on disk, written and synchronised,
  or the broker has it.  It is delivered at least once, whatever ends this process or its power, unless a bound of the
  configuration drops it, which is counted by reason.
- A message leaves the outbox when the broker acknowledged it (PUBACK).  That is noted a moment later, together with
  what is written next; a crash in between sends it again, with the same id (``verge-id``, an MQTT 5 user property).
- Messages of one topic are first seen in the order in which they were published.
"""
