"""The laboratory's commands: demo, eval, bench, train."""
