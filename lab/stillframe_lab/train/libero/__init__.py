"""Small policies for LIBERO: demonstrations of the scripted experts, and the training on them.

Knows the simulator's process and the experts; neither MuJoCo nor a daemon.
"""
