"""Kept frames: what sessions saw and were answered, on disk within a budget. Knows numpy, files; no HTTP, no torch."""
