"""Training of jaco-tiny: demonstrations in the simulator, then behaviour cloning. Knows models and the simulator."""
