"""Tools for operators: calibration and load tests."""
