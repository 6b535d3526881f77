"""The lab's commands: demo, eval, study, bench, parity, train."""

import stillframe.cli  # noqa: F401 (which finds these commands: whichever is imported first, it loads them whole)
