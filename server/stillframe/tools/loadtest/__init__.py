"""Many robots at once: how many a daemon serves in time, and whether one can spoil it for the others."""
