"""`python -m stillframe_client.jaco2.streamer FD SETTINGS LOG [dry]`: started by the bridge, not by hand."""

from __future__ import annotations

import sys
from pathlib import Path

from stillframe_client.jaco2.streamer.process import main

if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), dry=sys.argv[4:] == ["dry"]))
