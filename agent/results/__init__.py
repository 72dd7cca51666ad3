"""What a stream publishes about its frames: the result value, its formats, filters and sinks.

::

    predictions → Result → Filters → Detacher → Format.encode → Sink.write

================  ==================================================================================
``result``        the result of a frame, the failure of one that has none, sortable unique ids
``filters``       which results are published, and which of their predictions
``attachments``   what is large in a result, as bytes of its own
``formats``       how a result is written
``schemas``       what these payloads look like, as JSON Schema
``sinks``         where they go: a topic, a file, the log
``snapshots``     annotated pictures: when, and a bounded folder of them
``comparison``    whether answers say the same: for canaries, golden frames and tuning
``recent``        what is remembered of each camera, bounded
``disk``          what becomes of a write when the disk is full, read-only or gone
================  ==================================================================================
"""
