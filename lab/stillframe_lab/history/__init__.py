"""What older frames are worth, and what they cost: success, bytes, work and time by who says what is kept."""
