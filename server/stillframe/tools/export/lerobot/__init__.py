"""A LeRobot dataset, format v3, out of a recording. Knows the format; none of LeRobot's code."""
