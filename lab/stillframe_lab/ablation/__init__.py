"""The ablation: every reuse mode under every condition, in closed loop. Knows the evaluation."""
