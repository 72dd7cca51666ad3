"""The program of a camera's process.

==============  ==================================================================================================
module          what it holds
==============  ==================================================================================================
``program``     the process: one thread plays the camera, the other hands its newest picture over when asked
``captures``    the kinds of cameras, opened by OpenCV or picamera2
``newest``      pure: the newest picture, until it is taken or replaced
==============  ==================================================================================================

It keeps to Python 3.9 and imports only NumPy and OpenCV (and picamera2 where that is asked for), because a camera may
name another interpreter than the core's.
"""
