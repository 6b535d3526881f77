"""The suite jaco2: four tasks of the kitchen scene, played and reported as LIBERO's are.

Knows the simulated kitchen and LIBERO's episodes; no training.
"""
