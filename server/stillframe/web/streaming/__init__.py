"""WebSocket: many frames over one connection. Knows bytes and sessions; no torch."""
