"""pi0 and pi0.5: a vision-language prefix, read once, and an action expert that flows from noise to a chunk over it."""
