"""A payload recognised as a picture; nothing is decoded here.

=============  ==================================================================================
``frame``      a picture as it travels, and the frame that a stream received
``recognise``  from a payload to the picture in it, whatever it is wrapped in
``headers``    encoding, size and orientation from the first bytes of a picture
``envelope``   a JSON object with a picture in it, and the facts beside it
=============  ==================================================================================
"""
