"""The WebSocket client: a sans-IO protocol, and the connector that runs it. Knows no robot."""
