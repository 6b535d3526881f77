"""Training of jaco-tiny-kitchen: one policy for the four tasks of the kitchen scene.

Knows the scene and its experts; the network, its losses and its files are those of OpenVLA-OFT's small policies.
"""
