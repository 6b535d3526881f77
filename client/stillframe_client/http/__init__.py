"""HTTP requests whose time and reply size are bounded as a whole. Knows no frame and no session."""
