"""The goldens' checkpoint in two shapes, as a model in this process and as a running daemon, and what it has to answer.

Knows where the files lie; no test. Torch is loaded by those who ask for it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from numpy.typing import NDArray

if TYPE_CHECKING:
    from stillframe.models.base import PolicyModel

GOLDENS = Path(__file__).parent / "goldens"
SPOON = "put the spoon on the towel"  # the record's instruction i1


@dataclass(frozen=True)
class Golden:
    """A frame and the action that the reference implementation gave for it."""

    picture: NDArray[np.uint8]  # [height, width, 3]
    instruction: str
    action: NDArray[np.float64]  # [7]


@pytest.fixture(scope="session")
def golden_folder() -> Path:
    """The micro OpenVLA: read, never written."""
    return GOLDENS / "openvla-micro"


@pytest.fixture(scope="session")
def goldens() -> Mapping[str, Golden]:
    """Four frames of two sizes and what each is answered with, by name: f0 to f3."""
    with np.load(GOLDENS / "openvla-micro.npz") as record:
        return {f: Golden(record[f"{f}/frame"], SPOON, record[f"{f}_i1/actions"]) for f in ("f0", "f1", "f2", "f3")}


@pytest.fixture(scope="session")
def golden_model(golden_folder: Path) -> Iterator[PolicyModel]:
    """The micro OpenVLA, loaded as a daemon of one thread loads it."""
    import torch

    from stillframe.config import load_config
    from stillframe.serve import open_model

    threads = torch.get_num_threads()
    yield open_model(
        load_config(None, {"checkpoint": golden_folder, "dtype": "float32", "device": "cpu", "threads": 1})
    )
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def golden_url(golden_folder: Path) -> Iterator[str]:
    """The address of a real `stillframe serve`, a process of its own, which serves the micro OpenVLA."""
    from stillframe.bench.daemon import daemon

    options = ["--dtype", "float32", "--device", "cpu", "--threads", "1"]
    with daemon(["--checkpoint", str(golden_folder), *options]) as url:
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
