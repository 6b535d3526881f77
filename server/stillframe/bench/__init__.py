"""Closed-loop evaluation and the demo. Knows the simulator and both ways to ask a policy: in process and over HTTP."""
