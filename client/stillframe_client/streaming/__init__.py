"""Asks over one WebSocket: a conversation without sockets, and what carries it. Knows no robot."""
