"""Bounds on connections before they are requests: count, time, parts. Knows bytes and uvicorn; no route."""
