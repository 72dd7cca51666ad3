"""The whole product on one machine, in one command.

::

    camera ─ frames ─▶ broker ─▶ agent ─ results, status ─▶ broker ─▶ scores ─▶ table, summary

Broker, agent and cameras are child processes, as they would be on a real site; the demo itself is one more
client of the broker, and has no data that a dashboard could not have.  Children leave in reverse order.

==============  ===================================================================================
module          what it holds
==============  ===================================================================================
``child``       a program that ends with the demo, at the latest when the demo dies
``broker``      mosquitto, or the embedded broker of ``iotcore``, on the loopback interface only
``camera``      a program of its own: cameras that publish what they see, of pictures or of a belt
``belt``        worker side: pictures of parts on a belt, some scratched, and the truth about each
``listener``    the client of the broker that feeds the scores
``scores``      results and status reports in, rows, the summary and unanswered frames out (pure)
``inspection``  the verdicts of ``--inspect`` beside the truth: lines and figures (pure)
``table``       rows as a live table, or as plain lines where nobody watches
``show``        the order of events
``kit``         components of ``--deploy``: models that are well and models that are not
``jobs``        the Jobs service of ``--deploy``, and jobs that are timed
``rehearsal``   the deployments of ``--deploy`` while frames come, good ones and bad ones
``crashing``    worker side: a backend that takes its worker down
==============  ===================================================================================
"""
