"""`stillframe study evidence`. The lab's room methods does the work, imported on use."""

from __future__ import annotations

from pathlib import Path

import typer

from stillframe.errors import ConfigError

README, DOCS = Path("README.md"), Path("docs")  # of a checkout, in which the command runs


def evidence_command() -> None:
    """Write README's table of what was measured.

    Plays nothing: in a checkout, the table of suites, policies and methods is written into README.md out of the results
    of `families` and `methods` that lie under docs.
    """
    from stillframe_lab.methods.evidence import write_evidence

    try:
        write_evidence(README, DOCS)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{error}; run it in a checkout of the repository") from error
    typer.echo(f"written: {README}")
