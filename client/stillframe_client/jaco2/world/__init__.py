"""The simulated Jaco2 as a robot: a process that keeps real time; over a Unix socket an arm and its cameras.

Knows no policy and no limit. wire.py, launch.py and client.py need no simulator; the rest runs in the world's process.
"""
