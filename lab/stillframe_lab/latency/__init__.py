"""`stillframe bench`: latency against plain transformers, in one interleaved run, with the machine's roofline.

Needs torch, transformers, safetensors, pillow, msgpack and numpy; the simulator only to record and to close the loop.
"""
