"""Ways to reuse and to prune, side by side in LIBERO's suites: the papers' tables, played on one engine.

Knows the ablation's arms and LIBERO's episodes; no training.
"""
