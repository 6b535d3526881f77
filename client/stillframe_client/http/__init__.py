"""One HTTP request and its reply, bounded in time and bytes as a whole. Knows no frame and no session."""
