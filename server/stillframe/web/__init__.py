"""The web layer: bytes become domain objects here, and answers become bytes. Knows no torch, no engine, no model."""
