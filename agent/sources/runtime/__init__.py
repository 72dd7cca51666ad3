"""The program of a camera's process.

It keeps to Python 3.9 and imports only NumPy and OpenCV (and picamera2 where that is asked for), because a camera may
name another interpreter than the core's.
"""
