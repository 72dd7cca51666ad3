"""How agent/samples is made: pictures, a classifier and a detector out of pinned packages."""
