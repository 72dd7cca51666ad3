"""Deployments: from a document to a running set of components, or back to the one before.

The package's sentence::

    document → resolve → fetch → stage │ activate → verify → commit | roll back → report
                  nothing changed yet │ every step has its undo

==================  ==============================================================================
module              what it holds
==================  ==============================================================================
``service``         where documents arrive, wait, run and are reported; the device's state
``transaction``     one run of a deployment, step by step, and what it works with
``activation``      a target made live beside what is live, and the way back
``configurations``  what is live of components' configurations, their own updates, who is sent what changes
``ledger``          the record on disk, written before a step is taken; read-only for commands
``ordering``        what is asked of the one order of documents, and when its record moves
``refusals``        documents that are not taken: what is kept and said of them; the bounded inbox
``database``        the ledger's tables
``keeper``          the ledger through damage: set aside, begun anew, put back
``active``          the second record of the active set, and which of the two counts
``publishing``      the retained topics of deployments
``requesters``      who asks: a topic, an IoT job, the deployment shadow; the query of what is live
``running``         what the nucleus's configuration changes in the agent while it runs
``state``           what is active, what was before it, what the last deployment failed to change
``control``         commands carried out: a deployment cancelled, components restarted or stopped
``bootstrap``       Bootstrap steps: which have to be run, what their exit statuses ask for (pure)
``status``          how every component is, for the topics and for the fleet
``deployed``        the models of the components that are deployed now
``target``          a set as models, streams and scripts; the environments of runtimes
``folders``         a folder of recipes and one of their files, as they go into a document
``layout``          the folders on the disk
``golden``          pictures that a model brings along, with the answers it has to give
``canary``          a new model tried on a stream's frames beside the old one
``handshake``       components that are asked before a deployment changes anything, and informed after it
``repository``      recipes to resolve from: the agent's, the device's, the deployment's, the catalog's
==================  ==============================================================================

The decisions are pure modules, without clock, socket, file, log or task:

================  ==============================================================================
module            what it holds
================  ==============================================================================
``request``       what was asked for, as values; what all groups require together
``document``      text → request: Greengrass's document, its local form and Verge's short one
``commands``      documents that ask for no deployment: cancel, restart, stop; their answers
``queue``         which deployment is next, and which is refused
``resolver``      requirements → one version of every component that is needed, or why there is none
``nucleus``       what the nucleus's configuration changes here, and what of it has no effect
``plan``          what becomes of each component, in the order in which it happens
``kinds``         what a component is to the agent: a model, a stream, scripts or a part of itself
``blocks``        a component's ``Verge`` block: the model it is, or the stream it runs
``notes``         what a deployment did not do though it may have been meant
``consent``       what components answer: whether they may be changed now, whether a configuration is good
``waiting``       what a deployment waits for, why and until when
``outcome``       how a deployment ended, in the words of Greengrass and of AWS IoT Jobs
================  ==============================================================================
"""
