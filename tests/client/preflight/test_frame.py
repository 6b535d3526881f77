from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from stillframe_client.preflight.frame import INSTRUCTION, RobotFrame, parse_camera, parse_state


@pytest.mark.parametrize(
    ("text", "name"), [("front=6x8", "front"), ("6x8", None), ("observation/a=b=6x8", "observation/a=b")]
)
def test_a_size_is_a_black_picture(text: str, name: str | None) -> None:
    """Height by width; without a name it is the only camera's."""
    found, picture = parse_camera(text)

    assert found == name
    assert np.array_equal(picture, np.zeros((6, 8, 3), np.uint8))


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L"])
def test_a_file_is_its_pixels(tmp_path: Path, mode: str) -> None:
    """A PNG of any kind becomes RGB, as a camera would give."""
    pixels = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)
    picture = PIL.Image.fromarray(pixels).convert(mode)
    picture.save(tmp_path / "frame.png")

    assert np.array_equal(parse_camera(f"front={tmp_path}/frame.png")[1], np.array(picture.convert("RGB")))


@pytest.mark.parametrize(
    "text", ["front=", "front=0x8", "front=8x99999", "front=nothing.png", "=6x8", "front=6X8", "front=-6x8"]
)
def test_what_is_no_picture(text: str) -> None:
    """Is refused with what was expected."""
    with pytest.raises(ValueError, match=r"HEIGHTxWIDTH|no size of a picture"):
        parse_camera(text)


def test_a_file_that_is_no_picture(tmp_path: Path) -> None:
    """Is refused too, whatever its name."""
    (tmp_path / "frame.png").write_text("no PNG")
    with pytest.raises(ValueError, match="neither HEIGHTxWIDTH nor a PNG or JPEG"):
        parse_camera(f"front={tmp_path}/frame.png")


@pytest.mark.parametrize(
    ("text", "state", "measured"),
    [
        ("3", [0.0] * 3, False),
        ("64", [0.0] * 64, False),
        ("x, y,opening", {"x": 0.0, "y": 0.0, "opening": 0.0}, False),
        ("opening", {"opening": 0.0}, False),
        ("-0.5,1e-3", [-0.5, 1e-3], True),
        ("0.5", [0.5], True),
        ("x=0.5,y=-1", {"x": 0.5, "y": -1.0}, True),
    ],
)
def test_a_state_is_counted_named_or_measured(text: str, state: Any, measured: bool) -> None:  # noqa: FBT001
    """Zeros stand where nothing was measured."""
    assert parse_state(text) == (state, measured)


@pytest.mark.parametrize(
    "text", ["0", "65", "", "x,,y", "x,x", "x=1,x=2", "x=1,=2", "x=1,y=up", "0.1,up", "nan,1.0", "x=inf"]
)
def test_what_is_no_state(text: str) -> None:
    """Names are there once, numbers are finite."""
    with pytest.raises(ValueError, match="expected"):
        parse_state(text)


def test_words_stand_in_for_an_instruction() -> None:
    """Where the robot has none yet."""
    assert (RobotFrame().words, RobotFrame(instruction="go").words) == (INSTRUCTION, "go")
