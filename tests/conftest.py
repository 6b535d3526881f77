"""What all tests stand on: threads, Hypothesis' profiles, marks by cause, ports, the goldens' checkpoint in two shapes.

Knows where the files lie; no test. Torch is loaded by those who ask for it.
"""

from __future__ import annotations

import contextlib
import fcntl
import gc
import itertools
import logging
import os
import socket
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import Phase, settings
from numpy.typing import NDArray

if TYPE_CHECKING:
    from stillframe.models.base import PolicyModel

HERE = Path(__file__).parent
GOLDENS = HERE / "goldens"
SPOON = "put the spoon on the towel"  # the record's instruction i1

# Each worker computes on one core; processes that tests start inherit it. `make check-anywhere` asks for two.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A test that asks for more or fewer examples than the rest asks for a multiple of the profile's.
settings.register_profile("everyday", max_examples=30, deadline=None)
settings.register_profile("ci", max_examples=30, deadline=None, derandomize=True, database=None, print_blob=True)
settings.register_profile("thorough", max_examples=1000, deadline=None)
# tests/mutants: a failure is enough, its smallest example is not asked for.
settings.register_profile(
    "mutants", max_examples=100, deadline=None, derandomize=True, database=None, phases=[Phase.explicit, Phase.generate]
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "everyday"))

# Why a test takes what it takes. A fixture, or a folder, that brings a test its mark:
CAUSES = {
    "process": {"golden_url", "certificate", "pem", "prometheus_api", "e2e", "browser", "hard/faults", "hard/schema"},
    "real_client": {"environment", "connect", "program"},
    "gl": {"needs_gl"},
    "train": {"lab/train"},
    "browser": {"browser"},
}
# What a whole session shares and takes long to make, by fixture or folder: the group whose tests run on one worker.
SHARED = {
    "lab/latency": "lab/latency",
    "tools/certify": "tools/certify",
    "golden_url": "golden_url",
    "tiny": "tiny",
    "tiny_wrist": "tiny",
}
# A block of ports a worker; below those that the kernel gives to connections that go out.
FIRST_PORT, LAST_PORT, PORTS = 20_000, 32_000, 500


def pytest_configure(config: pytest.Config) -> None:
    """Say what our own mark means."""
    config.addinivalue_line(
        "markers", "few(n): of its cases n run every day, from all over their list; the rest is slow"
    )


@pytest.hookimpl(wrapper=True)  # between both halves xdist reads the groups, and -m the marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> Iterator[None]:
    """Mark each test by its causes, and keep together on one worker what shares a module's or session's fixtures."""
    mark_cases(items)
    places = {path: path.relative_to(HERE) for path in {item.path for item in items}}
    folders = {path: {each.as_posix() for each in place.parents} for path, place in places.items()}
    for item in items:
        known = {*getattr(item, "fixturenames", ()), *folders[item.path]}
        for mark in (mark for mark, causes in CAUSES.items() if causes & known):
            item.add_marker(mark)
        alone = places[item.path].as_posix()
        item.add_marker(pytest.mark.xdist_group(next((SHARED[name] for name in SHARED if name in known), alone)))
    yield
    for item in items:
        name_group(item)


def mark_cases(items: list[pytest.Item]) -> None:
    """Mark as slow all but a few of the cases of a test that asks for that, the first and the last among the few."""
    cases = defaultdict(list)
    for item in items:
        few = item.get_closest_marker("few")
        if few is not None and item.get_closest_marker("slow") is None:
            cases[item.path, getattr(item, "originalname", ""), *few.args].append(item)
    for (*_, most), found in cases.items():
        kept = {round(at * (len(found) - 1) / max(1, most - 1)) for at in range(most)}
        for number, item in enumerate(found):
            if number not in kept:
                item.add_marker(pytest.mark.slow)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Hardly anything is garbage while tests are collected: nothing searches for it."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


@pytest.fixture(scope="module", autouse=True)
def _search_for_garbage_of_this_module_alone() -> None:
    """What was collected, and what earlier modules imported, is much and stays: later searches leave it out."""
    gc.collect()
    gc.freeze()


def name_group(item: pytest.Item) -> None:
    """End a test's id with its group, which xdist 3.8 does where pytest kept ids before 9.2: pytest-xdist's issue 1386.

    Without it the scheduler hands out single tests, and each worker makes every module's and session's fixtures.
    """
    named = getattr(item, "_nodeid", item.nodeid)
    if item.nodeid != named:
        item._id = type(item._id).parse(named)


@pytest.fixture(scope="session", autouse=True)
def _what_a_load_finds_out_is_remembered() -> Iterator[None]:
    """Decoders of one shape are tested for batch invariance once, and a tokenizer's file is parsed once.

    Most of the time in which a golden's checkpoint loads goes into these two, and many tests load one.
    """
    network = sys.modules.get("stillframe.models.prismatic.network")
    prompt = sys.modules.get("stillframe.models.prismatic.prompt")
    if network is None or prompt is None:  # no test that was collected loads one
        yield
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(network, "is_batch_invariant", remembered(network.is_batch_invariant, shape_of))
        patch.setattr(prompt, "read_tokenizer", remembered(prompt.read_tokenizer, content_of))
        yield


FOUND: dict[Hashable, Any] = {}


def remembered(find: Callable[..., Any], key_of: Callable[..., Hashable]) -> Callable[..., Any]:
    """The same, asked once for each key."""

    def asked(*given: Any) -> Any:
        key = (find.__name__, key_of(*given))
        if key not in FOUND:
            FOUND[key] = find(*given)
        return FOUND[key]

    return asked


def shape_of(decoder: Any) -> Hashable:
    """All that decides how a decoder's products are summed up: sizes, kinds of layers, dtype, device, threads."""
    import torch

    norm = decoder.model.norm.weight
    kinds = tuple(type(module) for module in decoder.modules())
    return repr(decoder.config), kinds, norm.dtype, norm.device, torch.get_num_threads()


def content_of(file: Path, vocabulary: int | None = None) -> Hashable:
    """What a tokenizer is read from; of a file that is missing, where it is missed."""
    return file, file.read_bytes() if file.is_file() else None, vocabulary


@dataclass(frozen=True)
class Golden:
    """A frame and the action that the reference implementation gave for it."""

    picture: NDArray[np.uint8]  # [height, width, 3]
    instruction: str
    action: NDArray[np.float64]  # [7]


@pytest.fixture(scope="session")
def new_port() -> Iterator[Callable[[], int]]:
    """Give out ports of 127.0.0.1 that nothing listens on, from a block that no other worker or test run has."""
    with port_block() as first:
        numbers = itertools.count(first)

        def give() -> int:
            for port in itertools.islice(numbers, PORTS):
                with socket.socket() as probe, contextlib.suppress(OSError):
                    probe.bind(("127.0.0.1", port))
                    return port
            raise AssertionError(f"no free port from {first} on")

        yield give


@contextlib.contextmanager
def port_block() -> Iterator[int]:
    """Hold a block of ports by a lock on a file, which ends with this process; yields its first."""
    for first in range(FIRST_PORT, LAST_PORT, PORTS):
        if (lock := locked(Path(tempfile.gettempdir()) / f"stillframe-tests-ports-{first}")) is not None:
            with lock:
                yield first
            return
    raise AssertionError("every block of ports is held by another test run")


def locked(file: Path) -> IO[str] | None:
    """The file, open and locked; None where another process, or another user, has it."""
    with contextlib.ExitStack() as on_failure:
        try:
            opened = on_failure.enter_context(file.open("a"))
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return None
        on_failure.pop_all()
        return opened


@pytest.fixture(scope="session")
def golden_folder() -> Path:
    """The micro OpenVLA: read, never written."""
    return GOLDENS / "openvla-micro"


@pytest.fixture(scope="session")
def oft_folder(golden_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The micro OpenVLA with a head and a projector of the state beside it: read, never written."""
    folder = tmp_path_factory.mktemp("goldens") / "oft-micro"
    folder.mkdir()
    for file in (*golden_folder.iterdir(), *(GOLDENS / "oft-micro").iterdir()):
        (folder / file.name).symlink_to(file.resolve())
    return folder


@pytest.fixture(scope="session")
def cogact_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The micro CogACT's run folder as it is published, and Llama's tokenizer beside it: read, never written."""
    folder = tmp_path_factory.mktemp("goldens") / "cogact-micro"
    folder.mkdir()
    for file in (*(GOLDENS / "cogact" / "cogact-micro").iterdir(), GOLDENS / "openvla-micro" / "tokenizer.json"):
        (folder / file.name).symlink_to(file.resolve())
    return folder


@pytest.fixture(scope="session")
def goldens() -> Mapping[str, Golden]:
    """Four frames of two sizes and what each is answered with, by name: f0 to f3."""
    with np.load(GOLDENS / "openvla-micro.npz") as record:
        return {f: Golden(record[f"{f}/frame"], SPOON, record[f"{f}_i1/actions"]) for f in ("f0", "f1", "f2", "f3")}


@pytest.fixture(scope="session")
def golden_model(golden_folder: Path) -> Iterator[PolicyModel]:
    """The micro OpenVLA, loaded as a daemon of one thread loads it."""
    import torch

    from stillframe.daemon.config import load_config
    from stillframe.daemon.serve import open_model

    threads = torch.get_num_threads()
    yield open_model(
        load_config(None, {"checkpoint": golden_folder, "dtype": "float32", "device": "cpu", "threads": 1})
    )
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def golden_url(golden_folder: Path, new_port: Callable[[], int]) -> Iterator[str]:
    """The address of a real `stillframe serve`, a process of its own, which serves the micro OpenVLA."""
    from stillframe.tools.local_daemon import daemon

    options = ["--dtype", "float32", "--device", "cpu", "--threads", "1"]
    with daemon(["--checkpoint", str(golden_folder), *options], new_port()) as url:
        yield url


@pytest.fixture(scope="session")
def needs_gl() -> None:
    """Skip where nothing can draw the simulated cameras; the reason names the packages. `make` installs them."""
    from stillframe_client.sim.engine import require_drawing
    from stillframe_client.sim.gl import NoOpenGLError

    try:
        require_drawing()
    except NoOpenGLError as problem:
        pytest.skip(str(problem))


@pytest.fixture
def tidy_logging() -> Iterator[None]:
    """Put back what `logs.open_log` changes for the whole process."""
    names = ("", "uvicorn", "httpx", "httpcore", "PIL", "matplotlib")
    before = [(logging.getLogger(name), logging.getLogger(name).level) for name in names]
    handlers = logging.getLogger().handlers[:]
    yield
    logging.getLogger().handlers[:] = handlers
    for logger, level in before:
        logger.setLevel(level)


@pytest.fixture
def typed(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tidy_logging: None,  # noqa: ARG001 -- for what it puts back
) -> Callable[..., tuple[int, str, str]]:
    """Type `stillframe` with words, run by the program's own main() in this process -> status, stdout, stderr."""
    from stillframe import cli

    def type_in(*words: object) -> tuple[int, str, str]:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["stillframe", *map(str, words)])
        try:
            cli.main()
            status = 0
        except SystemExit as end:
            status = int(end.code or 0)
        return status, *capsys.readouterr()

    return type_in
