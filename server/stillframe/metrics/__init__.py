"""Counts and times what the daemon does, for Prometheus. Knows no HTTP and no model."""

from stillframe.metrics.buckets import LATENCY_BUCKETS_S
from stillframe.metrics.daemon import FrameEnd, Metrics, Outcome, outcome_of

__all__ = ["LATENCY_BUCKETS_S", "FrameEnd", "Metrics", "Outcome", "outcome_of"]
