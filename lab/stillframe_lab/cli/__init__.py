"""The lab's commands: demo, eval, bench, parity, train."""
