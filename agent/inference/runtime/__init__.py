"""The worker side: everything here runs in a worker process.

It keeps to Python 3.9 syntax and imports only the standard library, NumPy, OpenCV and the backend a
model asks for, so that a model may name another interpreter than the core's.  It never imports from
the rest of the agent.
"""
