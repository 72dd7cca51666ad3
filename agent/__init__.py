"""Verge: an MQTT edge agent for machine-learning inference.

Two sentences describe the program; the rooms are named after their words::

    frame → recognise → queue → worker: decode → preprocess → backend → task → result → format → publish
    job   → document → resolve → fetch → stage → activate → verify → commit | roll back → report

===============  =================================================================================
room             what it holds
===============  =================================================================================
``app``          the composition root: a configuration in, a running agent out
``service``      run until a signal, leave in order
``config``       every key that a person can set, each bounded once
``mqtt``         the seam to every broker: MQTT, AWS IoT Core, an outbox before either
``frames``       a payload recognised as a picture
``sources``      where frames come from: topics, directories, cameras
``streams``      one input's way from frame to result: queue policies, fairness, counters
``inference``    the one door to models: plane, pools, worker processes, environments, tuning
``edgeapi``      interfaces for programs that call: SageMaker Edge Manager, Lookout for Vision, the V2 protocol
``results``      the result value, its formats, filters, sinks and comparison
``status``       what the agent publishes of itself
``greengrass``   recipes, artifacts, components, deployments, Amazon's data plane, the fleet's messages
``aws``          an account's credentials, AWS IoT Jobs, provisioning, the token exchange
``doctor``       what the agent needs of this machine, checked one by one
``demo``         a broker, simulated cameras and a live table in one command
``cli``          one module per command
``disk``         what can be the matter with a disk and its files, by name
``errors``       every error that is raised on purpose
``files``        disk writes that are whole or not there, and the modes of what is written
``eventstream``  the frames of Greengrass's socket, for both of its ends
``users``        the machine's users, and whose files are whose
``topics``       every topic of the agent's own, and MQTT's rules for names and filters
``text``         text that others wrote, made fit to be shown
``logs``         logs for people
===============  =================================================================================

``docs/architecture.md`` is the page that a newcomer reads: processes, the rooms and their arrows, the four walks,
and how to add what comes.
"""

__version__ = "0.1.0"
