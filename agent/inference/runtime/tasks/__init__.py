"""Tasks: one module each, imported only when a model asks for it.

==================  ==================================================================================
``classification``  what a picture shows
``detection``       objects and where they are
``decoders``        detection heads, one module for each family of networks
``tensors``         the outputs as they are
``activation``      from what a network answers to probabilities
==================  ==================================================================================
"""
