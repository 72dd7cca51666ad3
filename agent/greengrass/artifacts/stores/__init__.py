"""Where artifacts come from; see ``agent.greengrass.artifacts.registry`` for their names."""
