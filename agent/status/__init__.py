"""What the agent publishes of itself, as retained topics.

================  ====================================================================
``board``         the agent, its models and its streams; other topics are kept here too
``components``    the states and the payload of components
``transports``    the links to brokers, with what waits in their outboxes
================  ====================================================================
"""
