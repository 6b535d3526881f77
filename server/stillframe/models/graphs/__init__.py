"""CUDA graphs: passes that are captured once and replayed, one launch in place of a thousand.

Knows passes, the KV pool's slots and the vision encoder's images; no family, no session.
"""
