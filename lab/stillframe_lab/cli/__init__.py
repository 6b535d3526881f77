"""The lab's commands: demo, eval, bench, train."""
