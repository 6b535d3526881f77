"""Histogram buckets, chosen so that common questions are answered by a bucket and not by an estimate.

Knows no metric.
"""

from __future__ import annotations

# Edges lie on control periods (100 Hz ... 1 Hz), so "in time at 10 Hz" is a bucket and not an estimate.
LATENCY_BUCKETS_S = tuple(
    ms / 1000
    for ms in (1, 2, 4, 6, 8, 10, 15, 20, 25, 33, 40, 50, 67, 80, 100, 150, 200, 300, 500, 1000, 2500, 5000, 10_000)
)
PASSES_BUCKETS = (1, 2, 3, 4, 5, 6, 7, 8, 10, 14, 28, 56)
ACCEPTED_BUCKETS = (0, 1, 2, 3, 4, 5, 6, 7, 14, 28, 56)
BATCH_BUCKETS = (1, 2, 3, 4, 6, 8, 16, 32, 64)
RATIO_BUCKETS = (0, *(tenths / 10 for tenths in range(1, 11)))
UTILITY_BUCKETS = (0.01, *(tenths / 10 for tenths in range(1, 11)))  # the first: close to zero
AGE_BUCKETS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64, 128, 256)
# An action token's bin is 2 / 255 = 0.0078 wide, so a drift is a whole number of bins: the first edges lie between two.
DRIFT_BUCKETS = (0.004, 0.012, 0.02, 0.028, 0.036, 0.06, 0.1, 0.2, 0.5, 1, 2)
