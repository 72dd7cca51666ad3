"""Deployments: from a document to a running set of components, or back to the one before.

The package's sentence::

    document → resolve → fetch → stage │ activate → verify → commit | roll back → report
                  nothing changed yet │ every step has its undo

The decisions are pure modules, without clock, socket, file, log or task:

===============  ===============================================================================
module           what it holds
===============  ===============================================================================
``request``      what was asked for, as values
``document``     text → request: Greengrass's document, its local form and Verge's short one
``groups``       what every group of deployments wants, merged with what is asked for now
``resolver``     wants → one version of every component that is needed, or why there is none
``catalogue``    the components that are always there
``plan``         what becomes of each component, in the order in which it happens
``kinds``        what a component is to the agent: a model, a stream, scripts or a part of itself
``blocks``       a component's ``Verge`` block: the model it is, or the stream it runs
``queue``        which deployment is next, and which is refused
``canary``       whether a new model agrees with the old one on the same frames
``outcome``      how a deployment ended, in the words of Greengrass and of AWS IoT Jobs
``errors``       everything that can be wrong with a deployment, under Greengrass's own codes
===============  ===============================================================================
"""
