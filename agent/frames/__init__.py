"""A payload recognised as a picture; nothing is decoded here.

=============  ==================================================================================
``frame``      a picture as it travels, and the frame that a stream received
``recognise``  from a payload to the picture in it, whatever it is wrapped in
``headers``    encoding, size and orientation from the first bytes of a picture
``envelope``   a JSON message with a picture in it, and the facts beside it
``spelling``   bytes spelled out as base64, hexadecimal, a data URI or numbers
``packing``    bytes compressed by gzip or zlib, text in UTF-16
``extent``     pictures that lie whole among other bytes
``pieces``     a picture that comes in several messages
``foreign``    what bytes look like that are no picture
=============  ==================================================================================
"""
