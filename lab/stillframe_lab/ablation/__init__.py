"""The ablation: every way to reuse, under every condition, in closed loop. Knows the evaluation; serves nobody."""
