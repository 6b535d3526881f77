"""`python -m stillframe_client.jaco2.cli`: the command, where its script is not on the path."""

import sys

from stillframe_client.jaco2.cli import main

if __name__ == "__main__":
    sys.exit(main())
