"""WebSocket: many frames over one connection. Knows bytes and sessions; never torch."""
