"""The Jobs service: what AWS IoT Jobs is on AWS, for any broker.

================  =================================================================================
module            what it holds
================  =================================================================================
``job``           jobs, their settings and their executions: frozen values
``rules``         transitions as tables; how an execution changes; roll-out rate, abort, retry, time-outs (pure)
``repository``    jobs, executions and groups, indexed (pure)
``queue``         every job on every thing, the clock passed in (pure)
``notifier``      which device is notified next, and how fast (pure)
``conversation``  the protocol of devices over a queue: bytes in, bytes out (pure)
``management``    the requests of ``verge jobs`` over a queue: bytes in, bytes out (pure)
``store``         the contents of the repository, and notices that wait, in SQLite
``serve``         the service on a broker
``caller``        the client's end of ``management``
================  =================================================================================
"""
