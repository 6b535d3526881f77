"""Closed-loop evaluation, the ablation, the evidence for older frames, calibration and the demo.

Knows the simulator and both ways to ask a policy.
"""
