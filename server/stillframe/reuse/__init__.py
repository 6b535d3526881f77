"""KV reuse between frames: storage, similarity, relevance, plans. Knows tokens and tensors; no family, no HTTP."""
