"""`python -m stillframe_client.preflight URL`: see command.py."""

from __future__ import annotations

import sys

from stillframe_client.preflight.command import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
