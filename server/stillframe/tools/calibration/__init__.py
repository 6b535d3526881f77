"""Calibration: find the reuse settings for a drift budget by replaying recorded episodes. Knows the engine."""
