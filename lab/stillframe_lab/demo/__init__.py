"""The demo: the simulated arm, driven by the daemon."""
