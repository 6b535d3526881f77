"""What a session keeps of older frames, and which of them. Knows tensors and bytes; no model family and no session."""
