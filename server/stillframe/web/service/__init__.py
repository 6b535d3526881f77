"""What routes and streams share: from parsed fields to a frame, and its answer."""
