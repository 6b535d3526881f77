"""A small client of rosbridge_server: topics and services as JSON over a WebSocket. Knows no limit and no policy."""
