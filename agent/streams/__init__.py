"""One input's way from frame to result.

============  =======================================================================================
``streams``   the streams that run, by name, and the source that an input means
``stream``    one stream: payload → frame → queue → model → output
``assembly``  pictures that come in pieces
``queue``     frames that wait for a worker, one queue a camera
``output``    an answer becomes a result, filtered, formatted and handed to sinks
``metrics``   a stream's counts, rates and latencies, and how often a refusal is reported
============  =======================================================================================
"""
