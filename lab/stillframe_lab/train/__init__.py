"""How jaco-tiny came to be: demonstrations in the simulator, then behaviour cloning. Knows models and the simulator."""
