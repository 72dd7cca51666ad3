"""The Jobs service: what AWS IoT Jobs is on AWS, for any broker.

================  =================================================================================
module            what it holds
================  =================================================================================
``job``           jobs, their settings and their executions: frozen values
``rules``         transitions as a table; roll-out rate, abort, retry, time-outs (pure)
``progress``      how one execution goes on (pure)
``book``          what the service knows, indexed (pure)
``queue``         every job on every thing, the clock passed in (pure)
``conversation``  the protocol of devices over a queue: bytes in, bytes out (pure)
``management``    the requests of ``verge jobs`` over a queue: bytes in, bytes out (pure)
``store``         what the queue holds, in SQLite
``serve``         the service on a broker
``caller``        the other end of ``management``
================  =================================================================================
"""
