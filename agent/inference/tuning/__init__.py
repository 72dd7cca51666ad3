"""The fastest way to run a model on this device: measured here, with the real model, and kept.

What a model's manifest and configuration leave open (backend, accelerator, threads) is a *combination* to be found::

    probe → candidates → measure → choose → store → load, falling back

``probe`` asks a child process which backends read the file and which accelerators they have here; ``candidates`` lists
the combinations.  ``measure`` runs each in a worker of its own, through an inference plane like any model: all answer
the same pictures, and what does not answer as the first one does is out.  They are timed in rounds, one picture each
in turn, so that whatever else the machine does hits all alike.  ``choice`` is pure: the fastest wins if it wins by
more than the noise, otherwise the one with fewer threads.

The figures are kept per model and wish (``store``), with what the machine and its runtimes were: another processor or
another version of a runtime is measured anew.  Where the winner cannot be loaded any more, because its accelerator is
gone, the next one in the list is taken, and that is told (``tuner``).
"""
