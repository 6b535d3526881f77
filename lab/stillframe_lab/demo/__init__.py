"""The demonstration: the simulated arm, driven by the daemon."""
