"""What the bridge's rooms share in tests: a rosbridge server with a driver behind it. Knows no room."""

from __future__ import annotations

import importlib.util
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

FAKES = Path(__file__).parent / "fakes"


def load(name: str) -> ModuleType:
    """A module of fakes/, once a process."""
    full = f"stillframe_jaco2_fakes_{name}"
    if full not in sys.modules:
        spec = importlib.util.spec_from_file_location(full, FAKES / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        sys.modules[full] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[full])
    return sys.modules[full]


@pytest.fixture
def blank_charts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The charts that every report has are empty sheets: for tests of all that a report is beside them."""
    from matplotlib.figure import Figure

    from stillframe_client.jaco2.reports import charts

    for name in ("velocity", "position", "_states", "_lateness"):
        monkeypatch.setattr(charts, name, lambda *_: Figure(figsize=(1, 1)))


@pytest.fixture
def driver_node() -> Callable[..., Any]:
    """Make a DriverNode (fakes/driver_node.py): `driver_node(now_s=0.0, ros=2)`."""
    return load("driver_node").DriverNode


@pytest.fixture
def new_fake_driver(new_port: Callable[[], int]) -> Iterator[Callable[..., Any]]:
    """Start FakeDrivers (fakes/rosbridge_server.py); arguments are the node's. Each ends with the test."""
    started = []

    def start(**node: Any) -> Any:
        made = load("driver_node").DriverNode(time.monotonic(), **node)
        started.append(load("rosbridge_server").FakeDriver(made, new_port()))
        return started[-1]

    yield start
    for fake in started:
        fake.close()


@pytest.fixture
def fake_driver(new_fake_driver: Callable[..., Any]) -> Any:
    """A FakeDriver at its `url`: ROS 1, named j2n6s300."""
    return new_fake_driver()
