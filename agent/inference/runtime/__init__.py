"""The worker side: everything here runs in a worker process.

It keeps to Python 3.9 syntax and imports only the standard library, NumPy, OpenCV and the backend a model asks for, so
that a model may name another interpreter than the core's.  It never imports from the rest of the agent; the core
imports ``kinds``, ``messages`` and ``ring`` from here, which import nothing.

::

    picture → decode → [preprocess step] → preprocess → backend → task → [postprocess step] → answer

================  ==================================================================================
``worker``        the program: reads messages and pictures, writes answers
``messages``      the language between the core and a worker
``ring``          the frame buffer that both share
``session``       a loaded model that answers pictures
``answers``       an answer, and the message that brings it to the core
``arrays``        raw tensors in from the frame buffer and out as a message
``kinds``         the kinds of predictions, on which both sides agree
``base``          what a backend and a task must do
``backends``      networks run: LiteRT, ONNX Runtime, OpenCV, DLR
``tasks``         what a network's outputs mean: classes, objects, tensors
``decode``        from a picture's bytes to pixels, at the smallest scale that is enough
``preprocess``    from pixels to a network's input
``draw``          predictions drawn onto a picture
``boxes``         box maths: corners, the way back to the frame, suppression
``anchors``       the anchor boxes of SSD networks
``labels``        the names of classes, from every form of label file
``filemeta``      what model files say beyond their tensors
``onnxfile``      the inputs and outputs of an ONNX file
``options``       a table of options, read strictly
``plugins``       backends, tasks and steps by name
``custom``        a user's own code: a Python file beside the model
``contracts``     what a user's code must give
``picture``       what a user's preprocessing gets and gives
``errors``        errors that cross to the core as code, message and hint
================  ==================================================================================
"""
