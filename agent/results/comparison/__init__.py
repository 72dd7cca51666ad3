"""Whether answers say the same: two answers to one frame, or an answer and what was expected of it.

Canaries and tuning hold the answers of two models against each other (``answers``), golden frames an answer against
what was recorded (``expected``).  Both go by the same measures, all from 0 (nothing in common) to 1 (the same)::

    boxes, masks, points, texts, vectors, maps, tensors → pairs → answers → expected ← recording

==============  ====================================================================================
``boxes``       how much two boxes cover of each other, upright or turned
``masks``       how much two masks do
``points``      how alike two poses are
``texts``       how alike two texts are
``vectors``     how alike two vectors are
``maps``        how alike two maps are
``tensors``     how close the numbers of two tensors are
``tolerances``  how alike is alike enough
``pairs``       one prediction against another of its kind
``pairing``     who goes with whom
``answers``     two answers to one frame
``expected``    what is asked of an answer, and whether it came
``recording``   an answer as what is asked for from now on
``finite``      whether all numbers are numbers
==============  ====================================================================================

Everything here is pure.
"""
