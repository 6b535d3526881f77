"""Authentication, origin check, rate limits, request ids. Knows no frame."""
