from __future__ import annotations

import os
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import EntryPoint
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml

from stillframe import __version__
from stillframe.cli.plugins import GROUP, LAB_COMMANDS

ROOT = Path(__file__).parents[1]
BACKEND = "hatchling"
Contents = dict[str, bytes]


def project(file: str) -> dict[str, Any]:
    """The table `project` of a pyproject.toml."""
    table: dict[str, Any] = tomllib.loads((ROOT / file).read_text(encoding="utf-8"))["project"]
    return table


def source(folder: str) -> set[str]:
    """The package's files as a wheel should hold them: package/module.py, package/py.typed, and what pages are of."""
    path = ROOT / folder
    files = [*path.rglob("*.py"), path / "py.typed", *path.glob("**/static/*")]
    return {str(file.relative_to(path.parent)) for file in files}


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
def lab(tmp_path_factory: pytest.TempPathFactory) -> Contents:
    """The wheel `stillframe-lab`."""
    return build(ROOT / "lab", tmp_path_factory.mktemp("lab"))


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
    assert {"live.html", "docs.html", "live.js"} <= {name.split("/")[-1] for name in code(whole) if "/static/" in name}
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
def test_the_daemons_wheel_holds_no_training_and_no_evidence(whole: Contents) -> None:
    """What trains policies and makes the tables of docs/ is the lab's: no module, no data and no dependency of it."""
    rooms = {name.split("/")[1] for name in code(whole) if name.startswith("stillframe/") and name.count("/") > 1}
    needs = [line for line in metadata(whole).splitlines() if line.startswith("Requires-Dist:")]

    assert not rooms & {"lab", "train", "bench", "ablation", "demo", "evaluation", "latency"}
    assert not [name for name in whole if "stillframe_lab" in name or name.endswith("scene.msgpack")]
    assert not [name for name, text in whole.items() if name.endswith(".py") and b"import stillframe_lab" in text]
    assert not [name for name, text in whole.items() if name.endswith(".py") and b"from stillframe_lab" in text]
    assert not [need for need in needs if "transformers" in need or "stillframe-lab" in need]


@pytest.mark.slow
def test_the_labs_wheel_holds_the_lab_alone(lab: Contents) -> None:
    """Every module of stillframe_lab, the benchmark's scene, the licence, and its commands by entry point."""
    licence = [name for name in lab if name.endswith("licenses/LICENSE")]
    (entry_points,) = (text.decode() for name, text in lab.items() if name.endswith("entry_points.txt"))
    scene = "stillframe_lab/latency/scene.msgpack"

    assert code(lab) == source("lab/stillframe_lab") | {scene}
    assert lab[scene] == (ROOT / "lab" / scene).read_bytes()
    assert [lab[name] for name in licence] == [(ROOT / "LICENSE").read_bytes()]
    assert entry_points.startswith(f"[{GROUP}]")
    assert {line.split(" = ")[0] for line in entry_points.splitlines()[1:] if line} == {*LAB_COMMANDS}


def test_every_entry_point_of_the_lab_is_one_of_its_commands() -> None:
    """What pyproject.toml names can be imported."""
    named = project("lab/pyproject.toml")["entry-points"][GROUP]

    assert [*named] == [*LAB_COMMANDS]
    for name, value in named.items():
        assert callable(EntryPoint(name, value, GROUP).load())


@pytest.mark.slow
def test_both_wheels_hold_the_same_client(whole: Contents, client: Contents) -> None:
    """Whichever wheel is installed, stillframe_client is the same to the byte."""
    assert {name: whole[name] for name in code(client)} == {name: client[name] for name in code(client)}


def test_all_packages_are_typed() -> None:
    """PEP 561: type checkers read the annotations of an installed package only beside this file."""
    for folder in ("server/stillframe", "client/stillframe_client", "lab/stillframe_lab"):
        assert (ROOT / folder / "py.typed").is_file(), folder


def test_all_distributions_have_one_version() -> None:
    """The daemon, its client and the lab are released together."""
    versions = [
        [line for line in (ROOT / file).read_text(encoding="utf-8").splitlines() if line.startswith("__version__")]
        for file in (
            "server/stillframe/__init__.py",
            "client/stillframe_client/__init__.py",
            "lab/stillframe_lab/__init__.py",
        )
    ]

    assert versions[0] == versions[1] == versions[2]
    assert len(versions[0]) == 1


def test_the_citation_names_this_version() -> None:
    """CITATION.cff has the version and the licence of the packages."""
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))

    assert (citation["title"], citation["version"]) == ("stillframe", __version__)
    assert citation["license"] == project("pyproject.toml")["license"]


def test_what_the_lab_shares_with_the_daemon_it_needs_alike() -> None:
    """One lower bound for each library, one Python and one licence; the daemon itself with what simulates and draws."""
    daemon, lab = project("pyproject.toml"), project("lab/pyproject.toml")
    shared = [need for need in lab["dependencies"] if not need.startswith("stillframe")]

    assert {*shared} <= {*daemon["dependencies"]}
    assert [need for need in lab["dependencies"] if need not in shared] == ["stillframe[sim,charts]"]
    assert (lab["requires-python"], lab["license"]) == (daemon["requires-python"], daemon["license"])
    assert (ROOT / "lab/LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()


@pytest.mark.parametrize("folder", [".", "lab"])
def test_a_source_distribution_lists_what_it_builds_from(folder: str) -> None:
    """Names are anchored, so that a folder of the same name elsewhere, as tests/client, stays out; each is there."""
    tools = tomllib.loads((ROOT / folder / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["hatch"]["build"]
    listed = tools["targets"]["sdist"]["include"]
    packages = tools["targets"]["wheel"]["packages"]

    assert all(name.startswith("/") for name in listed)
    assert all((ROOT / folder / name[1:]).exists() for name in listed)
    assert {"/README.md", "/LICENSE"} <= {*listed}
    assert all(any(f"/{package}".startswith(name) for name in listed) for package in packages)


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
