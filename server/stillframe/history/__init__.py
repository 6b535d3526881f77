"""KV of a session's older frames: pooled, scored, kept within a budget. Knows tensors; no family, no session."""
