from __future__ import annotations

from pathlib import Path

import pytest

from stillframe.errors import StillframeError
from stillframe.tools.local_daemon import daemon


@pytest.mark.process
def test_a_daemon_that_ends_has_said_why(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A real process, a folder that is not there: status 1 and one line on stderr, no traceback; nobody waits."""
    missing = tmp_path / "no [such] checkpoint"
    with pytest.raises(StillframeError, match="ended with status 1"), daemon(["--checkpoint", str(missing)]):
        pass

    assert capfd.readouterr() == (
        "",
        f"stillframe: {missing} is not a folder; expected a checkpoint with config.json and safetensors\n",
    )
