"""Training of policies that attend to older frames, and of the gate that selects which are kept.

Knows models and history.
"""
