"""Every key that a person can set, in one place: frozen structs, each value bounded once."""
