"""Tasks: one module each, imported only when a model asks for it."""
