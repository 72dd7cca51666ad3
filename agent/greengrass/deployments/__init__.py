"""Deployments: from a document to a running set of components, or back to the one before.

The package's sentence::

    document → resolve → fetch → stage │ activate → verify → commit | roll back → report
                  nothing changed yet │ every step has its undo

================  ==============================================================================
module            what it holds
================  ==============================================================================
``service``       where documents arrive, wait, run and are reported; the device's state
``transaction``   one run of a deployment, step by step, and what it works with
``activation``    a target made live beside what is live, and the way back
``ledger``        the record on disk, written before a step is taken; read-only for commands
``requesters``    who asks: a topic, an IoT job, the deployment shadow; the query of what is live
``state``         what is active, what was before it, what the last deployment failed to change
``status``        how every component is, for the topics and for the fleet
``target``        a set as models, streams and scripts; the environments of runtimes
``layout``        the folders on the disk
``golden``        pictures that a model brings along, with the answers it has to give
``canary``        a new model tried on a stream's frames beside the old one
``keys``          public keys of those who may sign
``repository``    recipes to resolve from: the agent's, the device's, the deployment's, the catalog's
================  ==============================================================================

The decisions are pure modules, without clock, socket, file, log or task:

================  ==============================================================================
module            what it holds
================  ==============================================================================
``request``       what was asked for, as values; what all groups require together
``document``      text → request: Greengrass's document, its local form and Verge's short one
``trust``         who may deploy: by link, by signature, by the owner's rule
``queue``         which deployment is next, and which is refused
``resolver``      requirements → one version of every component that is needed, or why there is none
``plan``          what becomes of each component, in the order in which it happens
``kinds``         what a component is to the agent: a model, a stream, scripts or a part of itself
``blocks``        a component's ``Verge`` block: the model it is, or the stream it runs
``outcome``       how a deployment ended, in the words of Greengrass and of AWS IoT Jobs
``errors``        everything that can be wrong with a deployment, under Greengrass's own codes
================  ==============================================================================
"""
