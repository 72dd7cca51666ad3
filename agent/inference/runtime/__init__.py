"""The worker side: everything here runs in a worker process.

It keeps to Python 3.9 syntax and imports only the standard library, NumPy, OpenCV and the backend a model asks for, so
that a model may name another interpreter than the core's.  It never imports from the rest of the agent; the core
imports ``kinds``, ``messages``, ``modelinfo``, ``palette``, ``parts`` and ``ring`` from here, which need the standard
library alone.

::

    picture → decode → [preprocess step] → preprocess → backend → task → [postprocess step] → answer

================  ==================================================================================
``worker``        the program: reads messages and pictures, writes answers
``user``          whom the program runs as, where the agent is root
``messages``      the language between the core and a worker
``ring``          the frame buffer that both share
``session``       a loaded model that answers pictures
``rawsession``    a loaded network that answers tensors alone
``networks``      a model's network, opened by its backend
``recognition``   what a network is taken for, and why
``gallery``       a folder of known pictures
``cascade``       a second model that looks at what the first one detects
``stopwatch``     how long each step of an answer takes
``answers``       an answer, and the message that brings it to the core
``verdict``       whether something is wrong: the manifest's ``[anomaly]``
``painting``      where anomalies are, as a picture of their colours
``palette``       the colours of classes in it
``planes``        masks as run lengths, maps as uint8, both as PNG
``arrays``        raw tensors in from the frame buffer and out as a message
``kinds``         the kinds of predictions, on which both sides agree
``base``          what a backend and a task must do
``backends``      networks run: LiteRT, ONNX Runtime, OpenCV, DLR
``tasks``         what a network's outputs mean: classes, objects, tensors
``complaints``    what a decoder says beside its pixels
``decode``        from a picture's bytes to pixels, at the smallest scale that is enough
``complaints``    what a decoder says beside its pixels
``inputspec``     what is said of a network's picture, and who says it
``framing``       how a frame comes to lie on a network's canvas
``preprocess``    from pixels to a network's input
``feed``          what a network takes beside the picture
``windows``       tiles and regions of a frame
``merging``       what several windows found, as one answer
``draw``          predictions drawn onto a picture
``overlays``      what is laid over a whole picture: masks, maps
``skeletons``     which key points are joined by a line
``boxes``         box maths: corners, the way back to the frame, suppression
``rotated``       how far turned boxes overlap, and which remain
``anchors``       the anchor boxes of SSD networks
``labels``        the names of classes, read from a file and laid beside a network's columns
``labelforms``    the forms that label files have
``plainyaml``     YAML as label files are written in it
``prototext``     text protobufs as label maps are written in them
``filemeta``      what model files say beyond their tensors
``modelinfo``     what OpenVINO and Anomalib write of a model
``onnxfile``      the inputs and outputs of an ONNX file
``parts``         the files that a model is made of, and their digest
``protobuf``      Protobuf's binary form, walked without a schema
``prototxt``      the picture that a Caffe network reads
``options``       a table of options, read strictly
``plugins``       backends, tasks and steps by name
``custom``        a user's own code: a Python file beside the model
``contracts``     what a user's code must give
``picture``       what a user's preprocessing gets and gives
``errors``        errors that cross to the core as code, message and hint
================  ==================================================================================
"""
