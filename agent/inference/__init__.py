"""The one door to models, and what is behind it.

::

    stream · server · command line → plane → pool → process ┄ socket and frame buffer ┄ runtime (a worker process)

==================  ==============================================================================================
module              what it holds
==================  ==============================================================================================
``plane``           the door: load, unload, ready, metadata, infer with a picture or with raw tensors
``values``          what crosses the door: requests, answers, a model's metadata, the state of its workers
``predictions``     what a model says of a picture: one type for each kind of prediction
``masks``           masks as run lengths: how large, and as PNG (pure)
``planes``          masks and maps as PNG, read and written (pure)
``tensors``         raw tensors: named bytes with a type and a shape
``manifest``        what a model is: its file, task, labels, input and options
``original``        packages that Lookout for Vision made, read as manifests
``placement``       where and how a model is run: backend, accelerator, threads
``pool``            a model's workers: requests pulled from feeders, workers that die replaced
``process``         one worker as the core sees it: started, loaded, fed, watched by a deadline, ended
``child``           the process of a worker and the end of what it writes to standard error
``guilt``           which pictures end workers, and which cameras send such pictures (pure)
``quarantine``      inputs that a worker was lost over
``alone``           one model loaded for itself, for a look or a few answers
``tuning``          the best placements on this device, measured
``environments``    virtual environments for the interpreters of workers
``runtime``         the worker side: its own process, perhaps its own interpreter; imports nothing of the core
==================  ==============================================================================================
"""
