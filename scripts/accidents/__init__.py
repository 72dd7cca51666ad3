"""``scripts/chaos``: what is left of an agent's promises while everything around it breaks, at random.

================  ============================================================================
module            what it holds
================  ============================================================================
``__main__``      the command: options, the figures for a person or as JSON
``run``           the accidents, one after the other from a seed, and the quiet end
``site``          the broker, the link that can be cut, the agent, its disk and its clock
``traffic``       two cameras and whoever listens to them; deployments
``books``         what was sent and what came of it, kept apart from the agent (pure)
``clock``         starts the agent with a clock that a file moves
``plugins``       a model that answers, crashes and hangs as a picture tells it
================  ============================================================================
"""
