"""Evaluation of the Jaco2 bridge: daemon, bridge and simulated arm, each its own process, in real time.

Knows the bridge and its simulated world; what an arm and a policy are is theirs.
"""
