"""One input's way from frame to result: queues, counters and the stream that joins them."""
