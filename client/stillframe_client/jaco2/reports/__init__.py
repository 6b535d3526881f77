"""What reads a run's log: replays it, sums it up, draws it. Moves nothing and needs no arm."""
