"""Calibration: the knobs that reuse most within a budget of drift, out of recorded episodes. Knows the engine."""
