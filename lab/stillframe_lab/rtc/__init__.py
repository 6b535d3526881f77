"""Real-time chunking in closed loop: what an answer's delay costs, with the next chunk held and without."""
