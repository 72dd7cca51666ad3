"""What the agent publishes of itself, as retained topics.

================  ====================================================================
``board``         the agent, its models and its streams; other topics are kept here too
``folder``        the data folder: locked, marked, looked at while the agent runs
``ghosts``        what is retained of an earlier run and is no more, cleared
``presence``      another agent of the same thing on the same broker, noticed
``transports``    the links to brokers, with what waits in their outboxes
================  ====================================================================
"""
