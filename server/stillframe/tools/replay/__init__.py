"""Replay: what another checkpoint, or another reuse mode, would have answered to recorded frames. Knows the engine."""
