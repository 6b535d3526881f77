"""How a policy learns to look at older frames, and a gate which of them to keep. Knows models and memory."""
