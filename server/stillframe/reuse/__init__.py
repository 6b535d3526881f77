"""What one frame leaves for the next, and what of it still holds. Knows tokens and tensors; no family and no HTTP."""
