"""The policy families and the layers they share. Knows tensors and checkpoints; no sessions and no HTTP."""
