from __future__ import annotations

import base64
import contextlib
import io
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import PIL.Image
import pytest

from stillframe_client.jaco2.cameras import make_camera
from stillframe_client.jaco2.cameras import ros as room
from stillframe_client.jaco2.cameras.base import CameraError, CameraUnusable, StaleFrame
from stillframe_client.jaco2.cameras.ros import RosSource, decode, make
from stillframe_client.jaco2.settings import ArmSettings, BridgeSettings, CameraSettings

TOPIC = "/camera/color/image_raw/compressed"
KIND = "sensor_msgs/CompressedImage"


def encoded(value: int, size: tuple[int, int] = (32, 24), form: str = "JPEG") -> bytes:
    """A plain picture in red of that value."""
    out = io.BytesIO()
    PIL.Image.new("RGB", size, (value, 0, 0)).save(out, form)
    return out.getvalue()


def message(value: int, **options: Any) -> dict[str, Any]:
    """A CompressedImage as rosbridge writes it."""
    data = base64.b64encode(encoded(value, **options)).decode()
    return {"header": {"stamp": {"secs": 1, "nsecs": 0}}, "format": "rgb8; jpeg compressed bgr8", "data": data}


@pytest.fixture
def camera_server(new_fake_driver: Callable[..., Any]) -> Any:
    """A server that has the camera's topic."""
    fake = new_fake_driver()
    fake.topics[TOPIC] = KIND
    return fake


@pytest.fixture
def source(camera_server: Any) -> Iterator[RosSource]:
    """An open source."""
    made = RosSource(camera_server.url, TOPIC, KIND, 30.0)
    made.open()
    camera_server.until(lambda: camera_server.sessions and TOPIC in camera_server.sessions[-1].subscribed)
    yield made
    made.close()


def test_a_picture_arrives_as_rgb(camera_server: Any, source: RosSource) -> None:
    """JPEG in base64 becomes RGB uint8 [height, width, 3]; red stays red."""
    camera_server.publish(TOPIC, message(200))
    picture = source.read()

    assert picture.shape == (24, 32, 3)
    assert picture.dtype == np.uint8
    assert abs(int(picture[..., 0].mean()) - 200) <= 2
    assert picture[..., 1:].max() < 10


def test_the_newest_is_read(camera_server: Any, source: RosSource) -> None:
    """Of pictures that came since the last read only the newest is seen."""
    for value in (10, 60, 110, 160):
        camera_server.publish(TOPIC, message(value, form="PNG"))
    time.sleep(0.05)
    camera_server.publish(TOPIC, message(210, form="PNG"))
    seen = [int(source.read()[0, 0, 0])]
    while seen[-1] != 210:
        seen.append(int(source.read()[0, 0, 0]))

    assert seen == sorted(seen)
    assert len(seen) < 5


def test_what_waited_unread_is_dropped(camera_server: Any, source: RosSource) -> None:
    """A picture that arrived a while before it is asked for is not handed out as a new one."""
    camera_server.publish(TOPIC, message(50, form="PNG"))
    time.sleep(room.MOST_AGE_S + 0.3)
    camera_server.publish_in(0.2, TOPIC, message(250, form="PNG"))
    assert int(source.read()[0, 0, 0]) == 250


def test_the_server_is_asked_to_thin_and_to_keep_one(camera_server: Any, source: RosSource) -> None:
    """queue_length is 1, and the throttle lies below the time between two pictures at 30 Hz."""
    assert source is not None
    asked = camera_server.sessions[-1].subscribed[TOPIC]

    assert asked["queue_length"] == 1
    assert 20 <= asked["throttle_rate"] < 33


def test_what_cannot_be_read_is_passed_over(camera_server: Any, source: RosSource) -> None:
    """A broken picture among good ones changes nothing."""
    camera_server.publish(TOPIC, {"format": "jpeg", "data": "bm8gSlBFRw=="})
    camera_server.publish(TOPIC, {"format": "jpeg", "data": 7})
    camera_server.publish_in(0.2, TOPIC, message(250, form="PNG"))
    assert int(source.read()[0, 0, 0]) == 250


def test_no_picture_is_said(camera_server: Any, source: RosSource, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing on the topic: an error that names it, says what rosbridge said, and what to look at."""
    monkeypatch.setattr(room, "GONE_S", 0.3)
    camera_server.say({"op": "status", "level": "error", "msg": "no such topic"})
    with pytest.raises(CameraError, match=rf"no picture came on {TOPIC} within 0\.3 s: does its node run.*no such top"):
        source.read()


def test_a_server_that_is_gone_is_said(camera_server: Any, source: RosSource, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the server went away reading ends with that reason."""
    monkeypatch.setattr(room, "GONE_S", 0.8)
    camera_server.down()
    with pytest.raises(CameraError, match=r"no picture came .*rosbridge at ws://"):
        source.read()


@pytest.mark.parametrize(
    "data",
    [b"", b"\xff\xd8\xff", encoded(1)[:200], b"GIF89a" + bytes(50), encoded(1, (8200, 1), "PNG")],
    ids=["empty", "head", "cut", "gif", "wide"],
)
def test_what_is_no_picture_is_refused(data: bytes) -> None:
    """Only whole JPEGs and PNGs of a sane size are decoded: ValueError for the rest."""
    with pytest.raises(ValueError, match=r"no JPEG or PNG|at most"):
        decode(data)


@pytest.mark.parametrize("ros", [1, 2])
def test_it_is_made_of_the_settings(ros: int, new_fake_driver: Callable[..., Any]) -> None:
    """The topic is `source`, the server arm.url, the type that of the ROS; stale after a break, then new."""
    fake = new_fake_driver(ros=ros)
    fake.topics[TOPIC] = KIND if ros == 1 else "sensor_msgs/msg/CompressedImage"
    settings = CameraSettings(kind="ros", source=TOPIC, width=32, height=24, resize=0, frozen_s=0.0)
    camera = make_camera("front", settings, BridgeSettings(arm=ArmSettings(url=fake.url, ros=ros)))
    fake.stream(TOPIC, message(90), seconds=4.0)
    camera.start(10)
    first = camera.latest()
    assert first.picture.shape == (24, 32, 3)
    fake.down()
    time.sleep(settings.age_s + 0.1)
    with pytest.raises(StaleFrame):
        camera.latest()
    fake.up()
    fake.stream(TOPIC, message(90), seconds=10.0)
    wait_for_newer(camera, first.seq)
    camera.close()


def wait_for_newer(camera: Any, seq: int) -> None:
    """Wait until the camera has a newer frame than that one."""
    ends_s = time.monotonic() + 10
    while True:
        with contextlib.suppress(CameraError):
            if camera.latest().seq > seq:
                return
        assert time.monotonic() < ends_s
        time.sleep(0.02)


@pytest.mark.parametrize("source", ["0", "camera/compressed", "/camera /compressed", ""])
def test_a_source_that_is_no_topic_is_refused(source: str) -> None:
    """The text shows a topic."""
    with pytest.raises(CameraUnusable, match=r"expected a topic such as"):
        make(CameraSettings(kind="ros", source=source), BridgeSettings())


def test_an_address_that_is_none_is_refused() -> None:
    """The same refusal as of the arm, before anything is tried."""
    with pytest.raises(CameraUnusable, match=r"expected the address of rosbridge_server"):
        make(CameraSettings(kind="ros", source=TOPIC), BridgeSettings(arm=ArmSettings(url="http://robot")))
