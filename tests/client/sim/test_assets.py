from __future__ import annotations

from pathlib import Path

import pytest

from stillframe_client.sim.assets import NEEDED, MissingAssetsError, jaco_folder


def test_the_folder_holds_arm_and_hand() -> None:
    """The installed wheel's folder has every file the scene loads."""
    folder = jaco_folder()

    assert all((folder / name).exists() for name in NEEDED)


def test_an_absent_package_explains_itself() -> None:
    """Without dm_control the error names it and the extra."""
    with pytest.raises(MissingAssetsError, match=r"no_such_package.*pip install 'stillframe\[sim\]'"):
        jaco_folder("no_such_package")


def test_a_package_without_the_files_names_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wheel that lost its models is told apart from no wheel, by the missing names."""
    package = tmp_path / "hollow_control"
    package.mkdir()
    (package / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))

    with pytest.raises(MissingAssetsError, match=r"lacks jaco_arm\.xml, jaco_hand\.xml"):
        jaco_folder("hollow_control")
