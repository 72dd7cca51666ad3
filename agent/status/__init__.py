"""What the agent publishes of itself, as retained topics.

================  ====================================================================
``board``         the agent, its models and its streams; other topics are kept here too
``transports``    the links to brokers, with what waits in their outboxes
================  ====================================================================
"""
