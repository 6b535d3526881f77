"""Programs beside the tests, loaded by their path: no folder of tests is a package.

Knows where they lie; no test.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

HERE = Path(__file__).parent


def _load(path: Path) -> ModuleType:
    """The module of a file, under a name that nobody else has."""
    name = "hard_" + "_".join(path.resolve().with_suffix("").parts[-3:])
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return sys.modules[name]


@pytest.fixture(scope="session")
def load() -> Callable[[str], ModuleType]:
    """Load a file below tests/: `load("hard/fuzz/doors.py")`."""
    return lambda path: _load(HERE.parent / path)


@pytest.fixture
def desk(load: Callable[[str], ModuleType]) -> Iterator[Any]:
    """A web floor over the policy that echoes."""
    web = load("web/conftest.py")
    made = web.Desk(web.EchoPolicy())
    yield made
    made.policy.close()


@pytest.fixture
def socket(load: Callable[[str], ModuleType]) -> Any:
    """The class of WebSocket clients without a network."""
    return load("web/streaming/conftest.py").Socket
