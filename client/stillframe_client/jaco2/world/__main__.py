"""`python -m stillframe_client.jaco2.world --socket PATH`: a simulated world that runs in real time."""

from __future__ import annotations

import sys

from stillframe_client.jaco2.world.process import main

if __name__ == "__main__":
    sys.exit(main())
