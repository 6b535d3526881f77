"""What an operator runs beside the daemon: calibration and load tests."""
