"""Training of a selector: what drift the reuse of each patch token adds, learnt from dense passes and parts of them."""
