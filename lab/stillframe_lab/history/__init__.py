"""Evaluation of histories: success, bytes, work and time of each way to keep older frames."""
