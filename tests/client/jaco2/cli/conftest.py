"""What the command's tests stand on: settings drawn at random, a camera of no device, an arm that notes its calls."""

from __future__ import annotations

import dataclasses
import json
import time
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st

from stillframe_client.jaco2.arms.base import ArmError, ArmInfo
from stillframe_client.jaco2.cameras.base import CameraError, Frame
from stillframe_client.jaco2.config import ConfigError, as_document, load, parse
from stillframe_client.jaco2.domain import ArmState, ToolPose
from stillframe_client.jaco2.settings import SECTIONS, BridgeSettings, CameraSettings

WAIT_S = 60.0  # for what has to happen; no test waits this long unless it fails


def value(part: dataclasses.Field[Any], hint: Any) -> st.SearchStrategy[Any]:
    """Values of one setting, in its range; that they fit each other is not seen to."""
    about = part.metadata
    if about["choices"]:
        return st.sampled_from(about["choices"])
    if hint is int:
        return st.integers(int(about["low"]), int(about["high"]))
    if hint is float:
        return st.floats(about["low"], about["high"])
    if hint is str:
        return st.text(max_size=12)
    if hint == (str | None):
        return st.none() | st.text(max_size=12)
    return st.tuples(*[st.floats(about["low"], about["high"])] * len(part.default))


def section(kind: Any) -> st.SearchStrategy[dict[str, Any]]:
    """Some of a section's settings."""
    hints = typing.get_type_hints(kind)
    return st.fixed_dictionaries(
        {}, optional={part.name: value(part, hints[part.name]) for part in dataclasses.fields(kind)}
    )


def accepted(document: dict[str, Any]) -> BridgeSettings | None:
    """The settings; None where two of them do not fit each other."""
    try:
        return parse(document, "the test")
    except ConfigError:
        return None


@pytest.fixture(scope="session")
def until_moving() -> Callable[[Path], Path]:
    """Wait until a log below a folder shows that the arm is told to move; its file."""

    def wait(folder: Path) -> Path:
        give_up_s = time.monotonic() + WAIT_S
        while time.monotonic() < give_up_s:
            for file in (folder / "runs").glob("**/ticks.jsonl"):
                if any(any(json.loads(line).get("sent", ())[:6]) for line in file.read_text().splitlines()[1:-1]):
                    return file
            time.sleep(0.05)
        raise AssertionError("the arm was not told to move")

    return wait


@pytest.fixture(scope="session")
def any_settings() -> st.SearchStrategy[BridgeSettings]:
    """Every setting at random, cameras of any name."""
    cameras = st.dictionaries(st.text(max_size=8), section(CameraSettings), min_size=1, max_size=3)
    document = st.fixed_dictionaries({**{name: section(kind) for name, kind in SECTIONS.items()}, "cameras": cameras})
    return document.map(accepted).filter(lambda settings: settings is not None)  # type: ignore[return-value]


@pytest.fixture
def settings_file(tmp_path: Path) -> Callable[..., Path]:
    """Write a configuration whose runs go to the test's folder; `settings_file(limits__speed=0.5)`."""

    def write(**overrides: Any) -> Path:
        named = {name.replace("__", "."): value for name, value in overrides.items()}
        settings = load(None, {"record.folder": str(tmp_path / "runs"), **named})
        file = tmp_path / "settings.json"
        file.write_text(json.dumps(as_document(settings)))
        return file

    return write


class FakeCamera:
    """A camera of 50 pictures a second."""

    def __init__(self, error: str = ""):
        self._error, self._began_s = error, 0.0
        self.is_closed = False

    def start(self, timeout_s: float) -> None:  # noqa: ARG002 -- the protocol's
        """Begin, or fail."""
        if self._error:
            raise CameraError(self._error)
        self._began_s = time.monotonic()

    def latest(self) -> Frame:
        """The newest frame."""
        seq = int((time.monotonic() - self._began_s) * 50)
        return Frame(np.full((224, 224, 3), seq % 256, np.uint8), seq, self._began_s + seq / 50)

    def close(self) -> None:
        """Note it."""
        self.is_closed = True


@pytest.fixture
def fake_camera(monkeypatch: pytest.MonkeyPatch) -> Callable[..., FakeCamera]:
    """Put a camera in place of the configured ones: `fake_camera(error="...")`."""

    def put(error: str = "") -> FakeCamera:
        camera = FakeCamera(error)
        monkeypatch.setattr("stillframe_client.jaco2.cli.check_cameras.make_camera", lambda *_: camera)
        return camera

    return put


class FakeArm:
    """An arm that notes what it is asked, and reports as it is told to."""

    def __init__(
        self, *, gone: bool = False, period_s: float = 0.1, drift_m_s: float = 0.0, place: Any = (0, -0.4, 0.3)
    ):
        self.calls: list[str] = []
        self._gone, self._period_s, self._drift_m_s, self._place = gone, period_s, drift_m_s, np.array(place, float)
        self._began_s = time.monotonic()

    def connect(self, timeout_s: float) -> ArmInfo:  # noqa: ARG002 -- the protocol's
        """Answer, or not."""
        self.calls.append("connect")
        if self._gone:
            raise ArmError("no arm answers at ws://127.0.0.1:9090")
        return ArmInfo("fake", "fake", has_hand=False, reports_hz=None, details={"address": "here"})

    def state(self) -> ArmState | None:
        """The newest report."""
        seq = int((time.monotonic() - self._began_s) / self._period_s)
        time_s = self._began_s + seq * self._period_s
        drift = np.array([self._drift_m_s * (time_s - self._began_s), 0, 0])
        return ArmState(seq, time_s, ToolPose(self._place + drift, np.array([1.0, 0, 0, 0])))

    def start(self) -> None:
        """Note it."""
        self.calls.append("start")

    def send(self, twist: Any) -> None:  # noqa: ARG002 -- the protocol's
        """Note it."""
        self.calls.append("send")

    def stop(self) -> None:
        """Note it."""
        self.calls.append("stop")

    def home(self, timeout_s: float) -> None:  # noqa: ARG002 -- the protocol's
        """Note it."""
        self.calls.append("home")

    def close(self) -> None:
        """Note it."""
        self.calls.append("close")


@pytest.fixture
def fake_arm(monkeypatch: pytest.MonkeyPatch) -> Callable[..., FakeArm]:
    """Put an arm in place of the configured one."""

    def put(**kind: Any) -> FakeArm:
        arm = FakeArm(**kind)
        for module in ("check_arm", "direct"):
            monkeypatch.setattr(f"stillframe_client.jaco2.cli.{module}.make_arm", lambda _: arm)
        return arm

    return put
