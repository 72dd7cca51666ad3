"""Where frames come from, as three kinds of one ``Source``.

==============  ==================================================================================================
module          what it holds
==============  ==================================================================================================
``base``        the seam: what a stream asks of a source, its status, and beats at an interval
``topic``       a topic filter of a transport: frames come as they are sent
``retained``    which retained pictures were there before
``directory``   the files of a folder: at each beat one, or each new and changed one
``folder``      a folder listed and a file read whole, within limits; blocks
``watch``       pure: which files of a folder are new or changed, and whole
``camera``      a camera: its newest picture, and another process when it is lost
``player``      the process that plays a camera, as the core sees it
``secrecy``     a camera's address without its credentials
``runtime``     the process itself, in an interpreter of its own: OpenCV is imported there and nowhere else
==============  ==================================================================================================
"""
