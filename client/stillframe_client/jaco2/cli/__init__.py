"""The command `stillframe-jaco2`: reads its options, runs one of the commands, returns its exit status."""

from __future__ import annotations

import sys
from typing import Optional, Sequence

from stillframe_client.jaco2.cli.parser import parse_arguments
from stillframe_client.jaco2.cli.refusal import Refusal

REFUSED = 1  # exit status: what was given cannot be used, and nothing has moved
INTERRUPTED = 130


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Run a command; return 0: all is well, 1: refused, or something is wrong, 2: a fault of a run, 130: stopped."""
    options = parse_arguments(sys.argv[1:] if arguments is None else arguments)
    from stillframe_client.jaco2.cli.dispatch import dispatch  # what it imports is not needed for --help

    try:
        return dispatch(options)
    except Refusal as refusal:
        sys.stderr.write(f"stillframe-jaco2: {refusal}\n")
        return REFUSED
    except KeyboardInterrupt:
        sys.stderr.write("stillframe-jaco2: interrupted\n")
        return INTERRUPTED
