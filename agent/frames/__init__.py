"""Where pictures come from, and how a payload is recognised as one."""
