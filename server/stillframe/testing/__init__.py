"""For tests of programs that use stillframe: a policy that echoes what it saw, a daemon round it, a clock set by hand.

No checkpoint, no torch. `with running(EchoPolicy()) as url:` is a whole daemon for a robot's program to talk to.
"""

from stillframe.testing.clock import ManualClock
from stillframe.testing.policy import EchoPolicy, policy_info, state_info
from stillframe.testing.server import running

__all__ = ["EchoPolicy", "ManualClock", "policy_info", "running", "state_info"]
