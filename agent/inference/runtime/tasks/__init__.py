"""Tasks: one module each, imported only when a model asks for it.

==================  ==================================================================================
``classification``  what a picture shows
``detection``       objects and where they are
``decoders``        detection heads, one module for each family of networks
``anomaly``         whether a picture is unlike the usual, and where
``embedding``       a picture as a vector, and the nearest known
``text``            what is written in a line
``keypoints``       where the points of one hand, face or body are
``landmarks``       the families of networks that know such points
``inspection``      classes of the whole picture and of its places
``segmentation``    which part of the frame belongs to which class
``maps``            a number for each pixel, as depth
``dense``           outputs with numbers for each pixel
``tensors``         the outputs as they are
``activation``      from what a network answers to probabilities
==================  ==================================================================================
"""
