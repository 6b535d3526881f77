from __future__ import annotations

import ctypes
import json
import math
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillframe_client.jaco2 import link, rotations
from stillframe_client.jaco2.arms import make_arm
from stillframe_client.jaco2.arms.base import ArmError
from stillframe_client.jaco2.arms.kinova_sdk import points, session, structs
from stillframe_client.jaco2.arms.kinova_sdk.arm import KinovaSdkArm
from stillframe_client.jaco2.arms.kinova_sdk.errors import meaning
from stillframe_client.jaco2.arms.kinova_sdk.library import SYMBOLS, Library
from stillframe_client.jaco2.arms.kinova_sdk.mailbox import Mailbox
from stillframe_client.jaco2.arms.kinova_sdk.talk import LONGEST, OFFLINE
from stillframe_client.jaco2.core.watchdog import State
from stillframe_client.jaco2.domain import Twist
from stillframe_client.jaco2.settings import ArmSettings, BridgeSettings

STUB = Path(__file__).with_name("kinova_stub.c")
TWIST = Twist(np.array([0.01, -0.02, 0.03]), np.array([0.1, -0.2, 0.3]), 0.5)
SOON_S = 60.0  # for a thread that shares its core with others
LAYOUT = (  # as in the stub
    *(structs.CartesianInfo, structs.AngularInfo, structs.FingersPosition, structs.CartesianPosition),
    *(structs.UserPosition, structs.Limitation, structs.TrajectoryPoint, structs.TrajectoryFIFO, structs.SensorsInfo),
    *(structs.QuickStatus, structs.KinovaDevice, structs.EthernetCommConfig),
)
OFFSETS = (
    *((structs.UserPosition, name) for name in ("HandMode", "Fingers")),
    *((structs.TrajectoryPoint, name) for name in ("LimitationsActive", "SynchroType", "Limitations")),
    *((structs.KinovaDevice, "DeviceID"), (structs.EthernetCommConfig, "rxTimeOutInMs")),
)


class Stub:
    """One copy of the compiled stub, seen from the other side."""

    def __init__(self, path: Path):
        self.path = path
        self._handle = ctypes.CDLL(str(path))
        self._handle.stub_called.restype = ctypes.c_char_p

    @property
    def calls(self) -> list[str]:
        """Names of all calls, without a prefix."""
        return [self._handle.stub_called(number).decode() for number in range(self._handle.stub_count())]

    def without_readings(self) -> list[str]:
        """Names of the calls that change something."""
        return [name for name in self.calls if not name.startswith("Get")]

    def answer(self, name: str, status: int, delay_us: int = 0) -> None:
        """From now on."""
        self._handle.stub_answer(name.encode(), status, delay_us)

    def value(self, name: str, kind: type) -> object:
        """A global variable of the stub."""
        return kind.in_dll(self._handle, name)  # type: ignore[attr-defined]

    def set(self, name: str, kind: type, value: object) -> None:
        """Set one that is a number."""
        self.value(name, kind).value = value  # type: ignore[attr-defined]

    @property
    def point(self) -> structs.TrajectoryPoint:
        """The last that arrived."""
        return structs.TrajectoryPoint.in_dll(self._handle, "stub_point")

    def settings(self, **arm: object) -> BridgeSettings:
        """Of a bridge that uses it."""
        return BridgeSettings(arm=ArmSettings(kind="kinova_sdk", library=str(self.path), **arm))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The stub of USB and of Ethernet. Skips without a C compiler."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler (gcc or cc) on the path to compile the stub of the vendor's library with")
    folder = tmp_path_factory.mktemp("kinova")
    made = {}
    for name, options in {"usb": [], "ethernet": ["-DPREFIX=Ethernet_"]}.items():
        made[name] = folder / f"{name}.so"
        subprocess.run([compiler, "-shared", "-fPIC", *options, "-o", made[name], STUB], check=True)
    return made


@pytest.fixture
def new_stub(compiled: dict[str, Path], tmp_path: Path) -> Callable[[str], Stub]:
    """Copies: each has variables of its own."""

    def give(connection: str) -> Stub:
        return Stub(Path(shutil.copy(compiled[connection], tmp_path / f"{connection}.so")))

    return give


@pytest.fixture
def stub(new_stub: Callable[[str], Stub]) -> Stub:
    """That of USB."""
    return new_stub("usb")


@pytest.fixture
def arm(stub: Stub) -> Iterator[KinovaSdkArm]:
    """Connected."""
    made = make_arm(stub.settings())
    assert isinstance(made, KinovaSdkArm)
    made.connect(SOON_S)
    yield made
    made.close()


def wait_until(holds: Callable[[], object]) -> None:
    """Wait, for long but not forever."""
    until = time.monotonic() + SOON_S
    while not holds():
        assert time.monotonic() < until, "it did not come about"
        time.sleep(0.002)


def send_until(arm: KinovaSdkArm, holds: Callable[[], object], twist: Twist = TWIST) -> None:
    """Send as the loop does."""

    def sent() -> bool:
        arm.send(twist)
        time.sleep(0.008)
        return bool(holds())

    wait_until(sent)


def send_one(stub: Stub, arm: KinovaSdkArm) -> None:
    """Send until one command has arrived, and no more."""
    sent = stub.calls.count("SendAdvanceTrajectory")
    while stub.calls.count("SendAdvanceTrajectory") == sent:
        arm.send(TWIST)
        wait_until(lambda: arm._talk.mailbox._twist is None)  # type: ignore[union-attr]
        readings = len(stub.calls)
        wait_until(lambda: len(stub.calls) > readings)  # noqa: B023 -- the thread is done with it


def test_layouts_are_the_compilers(stub: Stub) -> None:
    """Every structure has the size, and the fields behind possible gaps the offset, that C gives them."""
    ours = [*map(ctypes.sizeof, LAYOUT), *(getattr(kind, name).offset for kind, name in OFFSETS), -1]

    assert list((ctypes.c_int * len(ours)).in_dll(ctypes.CDLL(str(stub.path)), "stub_layout")) == ours


def test_sizes_are_those_of_the_vendors_header() -> None:
    """As its header compiles on x86-64."""
    sizes = {kind.__name__: ctypes.sizeof(kind) for kind in LAYOUT[:10]}

    assert sizes == {
        "CartesianInfo": 24,
        "AngularInfo": 28,
        "FingersPosition": 12,
        "CartesianPosition": 36,
        "UserPosition": 76,
        "Limitation": 36,
        "TrajectoryPoint": 120,
        "TrajectoryFIFO": 12,
        "SensorsInfo": 60,
        "QuickStatus": 14,
    }


@pytest.mark.parametrize(
    ("connection", "initialising"),
    [("usb", "InitAPI"), ("ethernet", "InitEthernetAPI")],
    ids=["usb", "ethernet"],
)
def test_connecting_moves_nothing(
    new_stub: Callable[[str], Stub], connection: str, initialising: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Either library is found by its prefix, initialised, its one arm chosen and read; the control is not taken."""
    monkeypatch.setattr(session, "ROBOT_ADDRESS", "127.0.0.1")
    stub = new_stub(connection)
    arm = make_arm(stub.settings(name="j2n6s300"))
    info = arm.connect(SOON_S)
    state = arm.state()
    arm.close()

    assert stub.without_readings() == [initialising, "RefresDevicesList", "SetActiveDevice", "CloseAPI"]
    assert stub.value("stub_chosen", structs.KinovaDevice).DeviceID == 40  # type: ignore[attr-defined]
    assert (info.kind, info.name, info.has_hand) == ("kinova_sdk", "j2n6s300", True)
    assert "unproven on hardware" in info.details["proof"]
    assert info.details["serial"] == "PJ000000000000001"
    assert info.details["library"] == "5.2.0"
    assert info.details["warmest"] == "34 degrees Celsius"
    assert state is not None
    np.testing.assert_allclose(state.pose.position_m, [0.1, -0.4, 0.3], atol=1e-6)
    assert state.closure == 0.0


def test_ethernet_is_told_the_addresses(new_stub: Callable[[str], Stub], monkeypatch: pytest.MonkeyPatch) -> None:
    """The arm's and that of the interface beside it, in the network's byte order, and the vendor's ports."""
    assert session.ROBOT_ADDRESS == "192.168.100.11"
    monkeypatch.setattr(session, "ROBOT_ADDRESS", "127.0.0.7")
    stub = new_stub("ethernet")
    session.open_arm(Library(str(stub.path)))
    config = stub.value("stub_ethernet", structs.EthernetCommConfig)

    ours, robots = config.localIpAddress, config.robotIpAddress  # type: ignore[attr-defined]
    assert robots.to_bytes(4, sys.byteorder) == bytes([127, 0, 0, 7])
    assert ours.to_bytes(4, sys.byteorder) == bytes([127, 0, 0, 1])
    assert (config.robotPort, config.rxTimeOutInMs) == (55000, 1000)  # type: ignore[attr-defined]


def test_a_point_arrives_whole(stub: Stub, arm: KinovaSdkArm) -> None:
    """By value: velocities in the position's fields, fingers as velocities towards the closure, all else zero."""
    arm.start()
    send_until(arm, lambda: "SendAdvanceTrajectory" in stub.calls)
    position = stub.point.Position

    assert position.Type == 7  # CARTESIAN_VELOCITY
    assert [getattr(position.CartesianPosition, name) for name, _ in structs.CartesianInfo._fields_] == pytest.approx(
        [0.01, -0.02, 0.03, 0.1, -0.2, 0.3]
    )
    assert position.HandMode == 2  # VELOCITY_MODE
    assert [getattr(position.Fingers, name) for name, _ in structs.FingersPosition._fields_] == [4500.0] * 3
    assert (position.Delay, stub.point.LimitationsActive, stub.point.SynchroType) == (0.0, 0, 0)
    assert bytes(position.Actuators) + bytes(stub.point.Limitations) == bytes(28 + 36)


def test_an_arm_without_a_hand_moves_no_finger(stub: Stub) -> None:
    """Where the settings say arm_only the hand is left alone."""
    arm = make_arm(stub.settings(command="arm_only"))
    assert isinstance(arm, KinovaSdkArm)
    info = arm.connect(SOON_S)
    arm.start()
    send_until(arm, lambda: "SendAdvanceTrajectory" in stub.calls)
    arm.close()

    assert not info.has_hand
    assert stub.point.Position.HandMode == 0  # HAND_NOMOVEMENT
    assert bytes(stub.point.Position.Fingers) == bytes(12)


def test_control_is_taken_and_given_back_in_order(stub: Stub, arm: KinovaSdkArm) -> None:
    """start: the driver's way on an empty queue; stop: the queue is emptied, the control given back; nothing after."""
    before = len(stub.without_readings())
    arm.start()
    send_until(arm, lambda: "SendAdvanceTrajectory" in stub.calls)
    arm.stop()
    wait_until(lambda: stub.without_readings()[-2:] == list(session.STOPPING))
    arm.send(TWIST)
    time.sleep(0.05)
    calls = [name for name in stub.without_readings()[before:] if name != "SendAdvanceTrajectory"]

    assert calls == [
        *("StartControlAPI", "StopControlAPI", "EraseAllTrajectories", "StartControlAPI", "SetCartesianControl"),
        *("EraseAllTrajectories", "StopControlAPI"),
    ]
    assert stub.without_readings()[-2:] == list(session.STOPPING)


def test_nothing_is_sent_before_start(stub: Stub, arm: KinovaSdkArm) -> None:
    """A command to an arm that was not started is dropped."""
    for _ in range(5):
        arm.send(TWIST)
        time.sleep(0.01)

    assert "SendAdvanceTrajectory" not in stub.calls


def test_no_device_is_explained(stub: Stub) -> None:
    """1015: the cable, the udev rule and other programs are named, and the library is left as it was."""
    stub.answer("InitAPI", 1015)

    with pytest.raises(ArmError, match=r"InitAPI failed, status 1015.*cable.*udev.*another program"):
        make_arm(stub.settings()).connect(SOON_S)


@pytest.mark.parametrize(("devices", "said"), [(0, "GetDevices found none.*udev"), (2, "2 arms are attached")])
def test_one_arm_or_none(stub: Stub, devices: int, said: str) -> None:
    """No arm is chosen among several; the library is closed again."""
    stub.set("stub_devices", ctypes.c_int, devices)

    with pytest.raises(ArmError, match=said):
        make_arm(stub.settings()).connect(SOON_S)
    assert stub.calls[-1] == "CloseAPI"


def test_an_arm_without_a_position_is_refused(stub: Stub) -> None:
    """Where no reading succeeds connect says so and closes the library."""
    stub.answer("GetCartesianPosition", 1022)

    with pytest.raises(ArmError, match=r"no position within"):
        make_arm(stub.settings()).connect(0.3)
    assert stub.calls[-1] == "CloseAPI"


def test_five_errors_in_a_row_are_offline(stub: Stub, arm: KinovaSdkArm) -> None:
    """Fewer are borne; from the fifth on every command says what failed, until the next start."""
    arm.start()
    send_until(arm, lambda: "SendAdvanceTrajectory" in stub.calls)
    stub.answer("SendAdvanceTrajectory", 1014)
    with pytest.raises(ArmError, match=rf"offline: SendAdvanceTrajectory failed {OFFLINE} times.*1014"):
        send_until(arm, lambda: False)
    failed = arm._talk.counts.errors  # type: ignore[union-attr]
    stub.answer("SendAdvanceTrajectory", 1)
    arm.start()
    send_until(arm, lambda: stub.calls[-1] == "SendAdvanceTrajectory")

    assert failed >= OFFLINE


def test_single_errors_are_borne(stub: Stub, arm: KinovaSdkArm) -> None:
    """Four in a row, and again after a success: no command raises."""
    arm.start()
    send_until(arm, lambda: "SendAdvanceTrajectory" in stub.calls)
    for status in [*[1014] * (OFFLINE - 1), 1] * 3:
        stub.answer("SendAdvanceTrajectory", status)
        send_one(stub, arm)

    assert arm._talk.counts.errors == 3 * (OFFLINE - 1)  # type: ignore[union-attr]


def test_a_start_that_fails_is_told_with_the_next_command(stub: Stub, arm: KinovaSdkArm) -> None:
    """What was taken is given back."""
    stub.answer("SetCartesianControl", 9999)
    arm.start()

    with pytest.raises(ArmError, match=r"could not be started: SetCartesianControl failed, status 9999.*refused"):
        send_until(arm, lambda: False)
    assert stub.without_readings()[-2:] == list(session.STOPPING)


def test_a_stop_is_tried_until_it_succeeds(stub: Stub, arm: KinovaSdkArm) -> None:
    """Both calls, whatever the first gave, again and again."""
    arm.start()
    stub.answer("EraseAllTrajectories", 1)
    wait_until(lambda: "SetCartesianControl" in stub.calls)
    stub.answer("EraseAllTrajectories", 1014)
    arm.stop()
    wait_until(lambda: stub.without_readings()[-6:] == list(session.STOPPING) * 3)
    stub.answer("EraseAllTrajectories", 1)
    wait_until(lambda: not arm._talk._owes_stop)  # type: ignore[union-attr]
    stops = stub.calls.count("StopControlAPI")
    time.sleep(0.2)

    assert stub.calls.count("StopControlAPI") == stops


def test_closing_a_running_arm_stops_it(stub: Stub, arm: KinovaSdkArm) -> None:
    """The control is given back before the library is closed."""
    arm.start()
    wait_until(lambda: "SetCartesianControl" in stub.calls)
    arm.close()

    assert stub.without_readings()[-3:] == [*session.STOPPING, "CloseAPI"]


def test_a_stop_that_was_not_delivered_is_told(
    stub: Stub, arm: KinovaSdkArm, capfd: pytest.CaptureFixture[str]
) -> None:
    """An arm that does not answer to the end: the operator reads so."""
    arm.start()
    wait_until(lambda: "SetCartesianControl" in stub.calls)
    stub.answer("StopControlAPI", 1022)
    arm.stop()
    arm.close()

    assert "was not stopped" in capfd.readouterr().err
    assert stub.calls[-1] == "CloseAPI"


def test_a_long_queue_is_erased_and_an_error(stub: Stub, arm: KinovaSdkArm) -> None:
    """An arm that would go on moving after the last command is stopped."""
    arm.start()
    send_until(arm, lambda: "SendAdvanceTrajectory" in stub.calls)
    stub.set("stub_queue", ctypes.c_uint, LONGEST + 1)

    with pytest.raises(ArmError, match=rf"queue holds {LONGEST + 1} points"):
        send_until(arm, lambda: False)
    assert stub.without_readings()[-2:] == list(session.STOPPING)


def test_a_queue_that_fills_is_drained(stub: Stub, arm: KinovaSdkArm) -> None:
    """Single commands are left out, without an error."""
    arm.start()
    stub.set("stub_queue", ctypes.c_uint, LONGEST)
    send_until(arm, lambda: arm._talk.counts.drained > 1)  # type: ignore[union-attr]

    assert arm._talk.counts.sent > 1  # type: ignore[union-attr]


def test_a_slow_reading_delays_no_loop(stub: Stub, arm: KinovaSdkArm) -> None:
    """While the library waits for the arm, commands replace each other; what waited for long is not sent after it."""
    arm.start()
    send_until(arm, lambda: "SendAdvanceTrajectory" in stub.calls)
    readings = stub.calls.count("GetCartesianPosition")
    stub.answer("GetCartesianPosition", 1, delay_us=1_000_000)
    time.sleep(0.01)  # for one that began before
    wait_until(lambda: stub.calls.count("GetCartesianPosition") > readings and stub.calls[-1] == "GetCartesianPosition")
    sent, longest_s, dropped = stub.calls.count("SendAdvanceTrajectory"), 0.0, arm._talk.counts.dropped  # type: ignore[union-attr]
    for _ in range(20):
        began_s = time.monotonic()
        arm.send(TWIST)
        longest_s = max(longest_s, time.monotonic() - began_s)
    looked = stub.calls.count("GetGlobalTrajectoryInfo")
    wait_until(lambda: stub.calls.count("GetGlobalTrajectoryInfo") > looked)

    assert stub.calls.count("SendAdvanceTrajectory") == sent
    assert longest_s < 0.5  # half of what the reading takes
    assert arm._talk.counts.dropped == dropped + 20  # type: ignore[union-attr]


def test_readings_go_on_by_themselves(stub: Stub, arm: KinovaSdkArm) -> None:
    """The state renews itself with a growing number and the closure of the fingers."""
    first = arm.state()
    assert first is not None
    stub.value("stub_position", ctypes.c_float * 9)[6] = 3400.0  # type: ignore[index]
    wait_until(lambda: (arm.state() or first).seq >= first.seq + 3)
    newest = arm.state()

    assert newest is not None
    assert newest.closure == pytest.approx(0.5)
    assert newest.time_s > first.time_s


def test_home_waits_until_the_arm_is_there(stub: Stub, arm: KinovaSdkArm) -> None:
    """With the control taken before and given back after."""
    arm.home(SOON_S)

    assert stub.without_readings()[-8:] == [*session.STARTING, "MoveHome", *session.STOPPING]


def test_home_that_fails_says_why(stub: Stub, arm: KinovaSdkArm) -> None:
    """The control is given back."""
    stub.answer("MoveHome", 9999)

    with pytest.raises(ArmError, match=r"not at home: MoveHome failed, status 9999"):
        arm.home(SOON_S)
    assert stub.without_readings()[-2:] == list(session.STOPPING)


@pytest.mark.process
def test_the_streamer_leaves_the_arm_at_rest(stub: Stub, tmp_path: Path) -> None:
    """The real process with this arm: when the bridge hangs up zeros follow, and the control is given back."""
    settings, log = tmp_path / "settings.json", tmp_path / "calls.txt"
    settings.write_text(json.dumps({"arm": {"kind": "kinova_sdk", "library": str(stub.path)}}))
    ours, theirs = link.pair()
    end, moving = link.BridgeEnd(ours), 0
    command = [
        sys.executable,
        "-m",
        "stillframe_client.jaco2.streamer",
        str(theirs.fileno()),
        settings,
        tmp_path / "log",
    ]
    process = subprocess.Popen(command, pass_fds=[theirs.fileno()], env={**os.environ, "STUB_LOG": str(log)})
    theirs.close()
    until_s = time.monotonic() + SOON_S
    try:
        while moving < 20 and time.monotonic() < until_s:
            time.sleep(0.02)
            end.heartbeat()
            said = end.newest()
            if said is not None and said.state is State.DISARMED:
                end.order("arm")
            end.step([0.001, 0, 0, 0, 0, 0], 1.0, 0.1, link.now_s() + 0.3)
            words = log.read_text().split() if log.exists() else []
            moving = sum(float(word) > 0 for word in words if word[0].isdigit())
        end.close()
        status = process.wait(SOON_S)
    finally:
        process.kill()
        process.wait()
    calls = [line for line in log.read_text().splitlines() if not line.startswith("Get")]

    assert (moving >= 20, status) == (True, 0)
    assert calls[-3:] == [*session.STOPPING, "CloseAPI"]
    assert calls[-28:-3] == ["SendAdvanceTrajectory 0 0 0 0 0 0"] * 25


@pytest.mark.parametrize(
    ("library", "said"),
    [
        ("", r"arm.library is ''; expected the absolute path"),
        ("libm.so.6", r"expected the absolute path"),
        ("/nowhere/Kinova.API.USBCommandLayerUbuntu.so", r"there is no such file"),
        (str(STUB), r"cannot be loaded.*libusb"),
    ],
    ids=["empty", "name", "missing", "text"],
)
def test_only_a_library_at_an_absolute_path_is_loaded(library: str, said: str) -> None:
    """A bare name, which the loader would search for, is refused as is a file that is no library."""
    settings = BridgeSettings(arm=ArmSettings(kind="kinova_sdk", library=library))

    with pytest.raises(ArmError, match=said):
        make_arm(settings).connect(SOON_S)


def test_a_relative_path_is_refused(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even of a file that is there: what is loaded depends on no working folder."""
    monkeypatch.chdir(stub.path.parent)

    with pytest.raises(ArmError, match="expected the absolute path"):
        Library(stub.path.name)


def test_another_library_is_refused(compiled: dict[str, Path], tmp_path: Path) -> None:
    """What it lacks is named."""
    source, made = tmp_path / "other.c", tmp_path / "other.so"
    source.write_text("int InitAPI(void) { return 1; }\n")
    compiler = shutil.which("gcc") or shutil.which("cc") or ""
    subprocess.run([compiler, "-shared", "-fPIC", "-o", made, source], check=True)

    with pytest.raises(ArmError, match=r"it lacks CloseAPI, .*SendAdvanceTrajectory"):
        Library(str(made))
    assert set(compiled) == {"usb", "ethernet"}


def test_every_symbol_has_its_types(stub: Stub) -> None:
    """No call is left to guess its arguments."""
    library = Library(str(stub.path))

    assert {name: list(call.argtypes) for name, call in library._calls.items()} == {
        name: list(types) for name, types in SYMBOLS.items()
    }
    assert {call.restype for call in library._calls.values()} == {ctypes.c_int}


def test_a_call_before_connecting_is_refused(stub: Stub) -> None:
    """Only stop and close, which never raise, are let pass."""
    arm = make_arm(stub.settings())
    arm.stop()
    arm.close()

    assert arm.state() is None
    for call in (arm.start, lambda: arm.send(TWIST), lambda: arm.home(1.0)):
        with pytest.raises(ArmError, match="connect first"):
            call()


def test_an_order_takes_the_command_before_it_away() -> None:
    """So does a newer order; a command left after it stays."""
    mailbox = Mailbox()
    mailbox.twist(TWIST, 1.0)
    mailbox.order("start")
    mailbox.order("stop")

    assert mailbox.take(0.0) == ("stop", None, 1.0, False)
    assert mailbox.twist(TWIST, 2.0)
    assert not mailbox.twist(TWIST, 3.0)
    assert mailbox.take(0.0) == (None, TWIST, 3.0, False)


@given(st.tuples(*[st.floats(-math.pi, math.pi)] * 3))
def test_angles_are_intrinsic_xyz(angles: tuple[float, float, float]) -> None:
    """R = Rx Ry Rz."""
    (cx, cy, cz), (sx, sy, sz) = np.cos(angles), np.sin(angles)
    matrix = (
        np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
        @ np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
        @ np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    )
    quaternion = points.from_euler(*angles)

    turned = np.stack([rotations.rotate(quaternion, axis) for axis in np.eye(3)], axis=1)
    np.testing.assert_allclose(turned, matrix, atol=1e-9)


def test_a_pose_that_is_not_finite_stays_so() -> None:
    """The controller sees it and refuses it; no number is made up."""
    reading = structs.CartesianPosition(structs.CartesianInfo(math.nan, 0, 0, math.nan, 0, 0))
    state = points.state(reading, 1, 0.0, 6800.0)

    assert np.isnan(state.pose.orientation).all()
    assert np.isnan(state.pose.position_m[0])


@pytest.mark.parametrize(
    ("left_turns", "turns_s"),
    [(0.0, 0.0), (20.0, 0.0), (-20.0, 0.0), (21.0, 42.0), (-100.0, -200.0), (6800.0, 4500.0), (-6800.0, -4500.0)],
)
def test_fingers_follow_as_the_drivers_do(left_turns: float, turns_s: float) -> None:
    """Twice what is left, nothing within 20 turns, and never over the cap."""
    assert points.finger_turns_s(left_turns) == turns_s


def test_fingers_stay_where_they_are_not_known() -> None:
    """Before the first reading, and for a reading that is not finite."""
    for turns in (None, math.nan):
        assert bytes(points.point(TWIST, turns, 6800.0, hand=True).Position.Fingers) == bytes(12)


@pytest.mark.parametrize(("status", "said"), [(1015, "udev"), (1008, "another program"), (4711, "header")])
def test_statuses_are_put_into_words(status: int, said: str) -> None:
    """Known ones with what to do, others with where to look."""
    assert said in meaning(status)
