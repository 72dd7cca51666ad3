"""What a stream says about its frames: the result value, its formats, filters and sinks.

::

    prediction → Result → Filters → Format.encode → Sink.write

``result`` and ``ulid`` are the values, ``filters`` and ``formats`` are pure, ``sinks`` and ``snapshots``
touch the world; ``options`` is what the configuration says about them, and ``schemas`` tells strangers
what the payloads look like.
"""
