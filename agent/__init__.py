"""Verge: an MQTT edge agent for machine-learning inference.

Two sentences describe the program; the packages are named after their words::

    frame → recognise → queue → worker: decode → preprocess → backend → task → result → format → publish
    job   → document → resolve → fetch → stage → activate → verify → commit | roll back → report

==============  =================================================================================
package         what it holds
==============  =================================================================================
``transport``   a connected pub/sub bus: ``mqtt`` and ``iotcore``
``frames``      where pictures come from and how a payload is recognised as one
``sources``     directories and cameras, each camera played by a process of its own
``streams``     one input's way from frame to result: queue policies, fairness, counters
``inference``   the one door to models: plane, pool, worker processes; ``runtime`` is the worker side
``results``     the result value, its formats, filters and sinks
``recipes``     Greengrass component recipes: reading, versions, platforms, variables, configuration
``artifacts``   a component's files: stores, a cache by digest, unpacking
``jobs``        AWS IoT Jobs, both ends: the device's conversation and a service for any broker
``components``  what scripts become: the lifecycle table, processes, logs, health messages
``deployment``  the second sentence: documents, the resolver, the transaction, golden frames, trust
``catalog``     the components that every agent offers: Greengrass's for machine learning, our runtimes
``runtimes``    environments for workers: chosen, built, proved
``aws``         an account's region and credentials; ``tes`` hands them to components that may have them
``greengrass``  Amazon's data plane: components, artifacts and large documents, where it is asked
``provision``   a device's certificate and configuration for IoT Core
``tuning``      which backend and how many threads run a model fastest on this device
``samples``     small real models and pictures that ship with the package
``doctor``      what the agent needs of this machine, checked one by one
``demo``        a broker, simulated cameras and a live table in one command
``cli``         one module per command
==============  =================================================================================

Dependencies point one way: ``errors ← values and pure cores ← shells ← app ← cli``.  The core process
imports neither NumPy, OpenCV nor an inference backend; those live in the worker processes, so that
native code can crash a worker and never the agent.
"""

__version__ = "0.1.0"
