"""Closed-loop evaluation, the ablation, calibration and the demo. Knows the simulator and both ways to ask a policy."""
