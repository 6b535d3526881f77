"""The OpenVLA family: checkpoint, vision, prompt and actions."""
