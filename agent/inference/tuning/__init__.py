"""The fastest way to run a model on this device: measured here, with the real model, and kept.

What a model's manifest and configuration leave open (backend, accelerator, threads) is its *placement*, to be chosen::

    probe → candidates → measure → choose → store → load, falling back

==============  ==================================================================================================
module          what it holds
==============  ==================================================================================================
``tuner``       the whole way, and what stands behind the door of the plane: placements for a model, best first
``probe``       the program that says which backends read the file and which accelerators they have here
``device``      the machine as values, and the questions to ``probe``
``choice``      pure: which placements are worth measuring, and which is chosen; the fastest, if by more than noise
``measure``     placements measured side by side on the model's golden frames, each in a worker of its own
``store``       figures kept per model and requirements; stale when the machine or a runtime has changed
``values``      abilities, requirements, figures, the tuning as it is kept
==============  ==================================================================================================

All placements answer the same pictures, and one that does not answer as the first one does is out.  They are timed in
rounds, one picture each in turn, so that whatever else the machine does hits all alike.  Where the chosen placement
cannot be loaded any more, because its accelerator is gone, the plane takes the next one and reports it.
"""
