"""The process that simulates LIBERO, in an environment of its own, and what is said to it.

Knows the pinned simulator where that is installed; of ours only the wire's msgpack, and neither torch nor the daemon.
"""
