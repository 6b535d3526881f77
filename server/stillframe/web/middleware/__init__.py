"""Who may ask, from where, and how often. Knows no frame."""
