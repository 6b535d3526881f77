"""LIBERO, the papers' benchmark: its simulator as a process of its own, their protocol, experts, and the evaluation.

Knows policies behind a URL; imports neither the simulator nor torch.
"""
