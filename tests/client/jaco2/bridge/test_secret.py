from __future__ import annotations

from pathlib import Path

import pytest

from stillframe_client.jaco2.bridge.secret import read_token
from stillframe_client.jaco2.config import ConfigError


def test_a_token_is_read_from_its_file(tmp_path: Path) -> None:
    """Without the newline that editors leave; no file, no token."""
    (tmp_path / "token").write_text("abc\n")

    assert read_token(str(tmp_path / "token")) == "abc"
    assert read_token(None) is None


@pytest.mark.parametrize(
    ("data", "said"), [(None, "cannot be read"), (b" \n", "is empty"), (b"\xff\xfe", "cannot be read")]
)
def test_a_token_that_is_none_is_refused(data: bytes | None, said: str, tmp_path: Path) -> None:
    """A missing, an empty and a binary file are refused by the setting's name, and what is in it is not repeated."""
    file = tmp_path / "token"
    if data is not None:
        file.write_bytes(data)

    with pytest.raises(ConfigError, match=f"policy.token is .*{said}"):
        read_token(str(file))
