"""Drives a Kinova Jaco2 from a policy daemon: `stillframe-jaco2` (extra `jaco2`). Not proven on hardware: README.md.

Two processes. The bridge asks the policy (bridge/, cameras/); the streamer commands the arm at 100 Hz and trusts
nothing that the bridge tells it (streamer/, core/, arms/). Knows no model and no torch.
"""
