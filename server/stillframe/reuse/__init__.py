"""What one frame leaves for the next: key/value storage. Knows tokens and tensors; no family and no HTTP."""
