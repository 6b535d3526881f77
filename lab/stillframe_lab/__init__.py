"""stillframe-lab: demo, closed-loop evaluation, benchmarks and training."""

__version__ = "0.1.0"
