"""What a robot notices of a neighbour that means ill, or whose program is broken: one kind at a time."""
