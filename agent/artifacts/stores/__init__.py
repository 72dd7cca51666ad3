"""Where artifacts come from; see ``agent.artifacts.registry`` for their names."""
