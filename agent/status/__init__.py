"""What the agent publishes of itself: its state, its streams and its transports."""
