"""What a daemon would make of a robot's frame, before anything moves. Knows no robot and no torch."""
