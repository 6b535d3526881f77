"""Shared by routes and streams: from parsed fields to a frame, and to its answer."""
