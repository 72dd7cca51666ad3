"""Runtimes: what a model's workers need, in a virtual environment of its own.

A device runs what its wheels allow: one library stops at Python 3.11 and NumPy 1, the next begins at NumPy 2.
So each runtime gets its own environment, made without root from wheels alone (no code of theirs runs when they are
installed), and counts as ready only when a real worker in it has answered a picture rightly::

    survey → choose → build → prove → mark → link

================  ================================================================================
module            what it holds
================  ================================================================================
``spec``          what is asked for and what is given back
``combinations``  the table: which packages go together, per family
``host``          an interpreter and a machine, as values
``wheels``        which wheels fit an interpreter, and what a folder of them holds
``choose``        host × what there is × table × pins → candidates, and why the others are none
``requirements``  what a family asks of the machine, checked for ``verge doctor``
``survey``        the host's facts; ``query`` is the program that an interpreter answers with
``command``       a child process within limits
``build``         an environment from a candidate
``proof``         a worker in it answers a picture; the models are in ``proofs``
``store``         the folder of environments: names, marks, the lock, links, what is cleared away
``present``       environments that were here before, and the agent's own Python
``provider``      the whole way: found, or built and proved, and only then handed out
``errors``        why there is no environment
================  ================================================================================
"""
