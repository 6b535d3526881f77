"""Certificates: how far a checkpoint's accelerated answers are from the plain ones on a machine, and how fast."""
