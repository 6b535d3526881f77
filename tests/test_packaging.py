from __future__ import annotations

import os
import subprocess
import sys
import tomllib
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BACKEND = "hatchling"
Contents = dict[str, bytes]


def source(folder: str) -> set[str]:
    """The package's files as a wheel should hold them: package/module.py, and package/py.typed."""
    path = ROOT / folder
    return {str(file.relative_to(path.parent)) for file in [*path.rglob("*.py"), path / "py.typed"]}


def build(project: Path, out: Path) -> Contents:
    """Build one wheel with this interpreter's pip; file name in it -> bytes."""
    isolation = ["--no-build-isolation"] if find_spec(BACKEND) else []
    pip = [sys.executable, "-m", "pip", "wheel", "-q", "--disable-pip-version-check", "--no-deps", *isolation]
    pinned = str(ROOT / "constraints.txt")
    environment = os.environ | {"PIP_CONSTRAINT": pinned, "PIP_BUILD_CONSTRAINT": pinned}
    done = subprocess.run(
        [*pip, "--wheel-dir", str(out), str(project)], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    (wheel,) = out.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Contents:
    """The wheel `stillframe`."""
    return build(ROOT, tmp_path_factory.mktemp("whole"))


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Contents:
    """The wheel `stillframe-client`."""
    return build(ROOT / "client", tmp_path_factory.mktemp("client"))


def code(wheel: Contents) -> set[str]:
    """Everything but metadata."""
    return {name for name in wheel if ".dist-info/" not in name}


def metadata(wheel: Contents) -> str:
    """The wheel's METADATA."""
    (name,) = (name for name in wheel if name.endswith(".dist-info/METADATA"))
    return wheel[name].decode()


@pytest.mark.slow
def test_the_daemons_wheel_holds_both_packages(whole: Contents) -> None:
    """Stillframe and stillframe_client, every module of them, typed, and nothing else; the licence and the command."""
    expected = source("server/stillframe") | source("client/stillframe_client")
    licence = [name for name in whole if name.endswith("licenses/LICENSE")]
    (entry_points,) = (text for name, text in whole.items() if name.endswith("entry_points.txt"))

    assert code(whole) == expected
    assert {name.split("/")[0] for name in code(whole)} == {"stillframe", "stillframe_client"}
    assert [whole[name] for name in licence] == [(ROOT / "LICENSE").read_bytes()]
    assert b"stillframe = stillframe.cli:main" in entry_points


@pytest.mark.slow
def test_the_clients_wheel_holds_the_client_alone(client: Contents) -> None:
    """Only stillframe_client, typed, with its licence, and no dependency that a robot could not carry."""
    licence = [name for name in client if name.endswith("licenses/LICENSE")]
    needs = [line for line in metadata(client).splitlines() if line.startswith("Requires-Dist:")]

    assert code(client) == source("client/stillframe_client")
    assert {name.split("/")[0] for name in code(client)} == {"stillframe_client"}
    assert [client[name] for name in licence] == [(ROOT / "LICENSE").read_bytes()]
    assert [need for need in needs if "torch" in need or "fastapi" in need] == []
    assert "Requires-Python: >=3.8" in metadata(client)


@pytest.mark.slow
def test_both_wheels_hold_the_same_client(whole: Contents, client: Contents) -> None:
    """Whichever wheel is installed, stillframe_client is the same to the byte."""
    assert {name: whole[name] for name in code(client)} == {name: client[name] for name in code(client)}


def test_both_packages_are_typed() -> None:
    """PEP 561: type checkers read the annotations of an installed package only beside this file."""
    assert [(ROOT / folder / "py.typed").is_file() for folder in ("server/stillframe", "client/stillframe_client")] == [
        True,
        True,
    ]


def test_both_distributions_have_one_version() -> None:
    """The daemon and its client are released together."""
    versions = [
        [line for line in (ROOT / file).read_text(encoding="utf-8").splitlines() if line.startswith("__version__")]
        for file in ("server/stillframe/__init__.py", "client/stillframe_client/__init__.py")
    ]

    assert versions[0] == versions[1]
    assert len(versions[0]) == 1


def test_what_the_client_needs_the_daemon_brings() -> None:
    """The daemon's wheel holds the client as well, so it depends on all that the client depends on."""
    projects = [tomllib.loads((ROOT / file).read_text()) for file in ("pyproject.toml", "client/pyproject.toml")]
    daemon, client = ({need.split(">")[0] for need in each["project"]["dependencies"]} for each in projects)

    assert client <= daemon
    assert projects[0]["project"]["license"] == projects[1]["project"]["license"] == "Apache-2.0"


def test_both_distributions_simulate_with_the_same_versions() -> None:
    """The client's extra `sim` is the daemon's, for the interpreters that have those versions."""
    projects = [tomllib.loads((ROOT / file).read_text()) for file in ("pyproject.toml", "client/pyproject.toml")]
    daemon, client = (each["project"]["optional-dependencies"]["sim"] for each in projects)

    assert client == [f'{need}; python_version >= "{projects[0]["project"]["requires-python"][2:]}"' for need in daemon]
