"""Connections before they are requests: how many, how long, in how many parts. Knows bytes and uvicorn; no route."""
