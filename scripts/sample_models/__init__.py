"""How agent/samples is made: pictures and two models out of pinned packages, and an inspector from nothing."""
