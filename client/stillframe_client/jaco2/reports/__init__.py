"""What a run's log says afterwards: decided again, drawn, counted."""
