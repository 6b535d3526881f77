"""Experts: scripts that solve LIBERO-Spatial and LIBERO-Object from the simulator's true poses.

Knows poses and bounds; no pictures and no policy.
"""
