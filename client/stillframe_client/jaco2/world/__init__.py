"""A simulated robot in a process of its own: the MuJoCo Jaco2 behind the driver's queue, with its cameras."""
