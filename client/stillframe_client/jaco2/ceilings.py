"""Limits that no configuration passes.

Knows no setting. Source: the arm's own (MaxTranslationVelocity, MaxOrientationVelocity: up to 0.20 m/s and 1.07 rad/s;
0.64 m/s2 and 2.75 rad/s2), as users of kinova-ros found them.
"""

from __future__ import annotations

RATE_HZ = 100.0  # one message is one 10 ms point of the arm's queue
TICK_S = 1.0 / RATE_HZ
LINEAR_M_S = 0.20
ANGULAR_RAD_S = 1.07
LINEAR_M_S2 = 0.64
ANGULAR_RAD_S2 = 2.75
REACH_M = 1.0  # from the base: nothing that the arm reports or is told lies beyond
STEP_M = 0.10  # of one action: beyond it the statistics are another robot's
STEP_RAD = 0.6
SETPOINT_S = 2.0  # a step is good for so long at most, whatever deadline it carries
POSE_AGE_S = 1.5
HEARTBEAT_AGE_S = 1.0
SMOOTHED_S = 0.4  # that a limit of jerk may keep a command back
