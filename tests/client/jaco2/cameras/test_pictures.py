from __future__ import annotations

import sys
from collections import deque
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import PIL.Image
import pytest

from stillframe_client.jaco2.cameras.base import CameraUnusable
from stillframe_client.jaco2.cameras.pictures import opener, read_picture


def save(file: Path, value: int, mode: str = "RGB", **options: Any) -> Path:
    """A picture of 8 x 6 of one value."""
    file.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.new(mode, (8, 6), (value,) * len(mode) if len(mode) > 1 else value).save(file, **options)
    return file


def values(path: Path) -> list[int]:
    """The upper left value of each picture."""
    return [int(picture[0, 0, 0]) for picture in opener(path)()]


def test_pictures_come_in_the_order_of_their_names(tmp_path: Path) -> None:
    """Numbers in names count as numbers, padded or not; other files and folders are left out."""
    for name, value in {"10.png": 3, "2.png": 2, "01.png": 1, "a2.png": 4, "a10.PNG": 5, "b.png": 6}.items():
        save(tmp_path / name, value)
    (tmp_path / "notes.txt").write_text("5")
    (tmp_path / "0.png").mkdir()
    save(tmp_path / "inside" / "0.png", 9)

    assert values(tmp_path) == [1, 2, 3, 4, 5, 6]


def test_each_call_begins_with_the_first(tmp_path: Path) -> None:
    """An opener opens again."""
    save(tmp_path / "1.png", 1)
    save(tmp_path / "2.png", 2)
    begin = opener(tmp_path)
    first, second = begin(), begin()

    assert [int(next(pictures)[0, 0, 0]) for pictures in (first, second, first, second)] == [1, 1, 2, 2]


def test_one_picture_is_a_recording_of_one(tmp_path: Path) -> None:
    """A file in place of its folder."""
    assert values(save(tmp_path / "1.png", 77)) == [77]


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P"])
def test_every_picture_of_eight_bits_becomes_rgb(tmp_path: Path, mode: str) -> None:
    """Transparency is dropped, grey is three times the same; the array is the caller's to write."""
    picture = read_picture(save(tmp_path / "1.png", 9, mode))

    assert picture.shape == (6, 8, 3)
    assert picture.dtype == np.uint8
    assert picture.flags.writeable
    if mode != "P":
        assert (picture == 9).all()


def test_a_palette_with_transparency_is_read_in_silence(tmp_path: Path) -> None:
    """Its colours are taken, whatever their transparency, and PIL has nothing to warn of."""
    picture = PIL.Image.new("P", (8, 6), 1)
    picture.putpalette([0, 0, 0, 200, 100, 50])
    picture.save(tmp_path / "1.png", transparency=bytes([0, 128]))

    assert read_picture(tmp_path / "1.png")[0, 0].tolist() == [200, 100, 50]


def test_a_turned_photograph_is_set_upright(tmp_path: Path) -> None:
    """By its EXIF, as the daemon does: orientation 6 is shown turned by 90 degrees clockwise."""
    photograph = PIL.Image.new("RGB", (8, 6))
    photograph.putpixel((0, 0), (255, 255, 255))
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    photograph.save(tmp_path / "1.png", exif=exif)
    picture = read_picture(tmp_path / "1.png")

    assert picture.shape == (8, 6, 3)
    assert picture[0, -1].tolist() == [255] * 3


def test_sixteen_bits_are_refused(tmp_path: Path) -> None:
    """PIL would cut them off: depth is no picture."""
    file = tmp_path / "1.png"
    PIL.Image.fromarray(np.full((6, 8), 4000, np.uint16)).save(file)
    with pytest.raises(CameraUnusable, match=r"1\.png is a picture of type I.*; expected 8-bit RGB or grey"):
        read_picture(file)


@pytest.mark.parametrize("length", [0, 10, 50])
def test_a_file_that_is_cut_off_is_named(tmp_path: Path, length: int) -> None:
    """Whole files of nothing, a header alone, half a picture."""
    file = save(tmp_path / "1.png", 1)
    file.write_bytes(file.read_bytes()[:length])
    with pytest.raises(CameraUnusable, match=r"1\.png cannot be read as a picture"):
        read_picture(file)


def test_a_folder_without_pictures_names_those_inside_that_have_some(tmp_path: Path) -> None:
    """Where the folder above was given in place of the one that is meant."""
    save(tmp_path / "monday" / "front" / "1.jpg", 1)
    with pytest.raises(CameraUnusable, match=r"holds no picture; .*: did you mean its folder monday/front\?"):
        opener(tmp_path)


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    """A run that kept no picture but the first one."""
    (tmp_path / "frames.jsonl").touch()
    save(tmp_path / "first-front.png", 9)
    return tmp_path


def test_a_runs_folder_is_what_it_kept_of_the_camera(run_folder: Path) -> None:
    """Of an only camera whatever it is called, of several the one of this name; never the first frame beside them."""
    for number, name in enumerate(("000001.jpg", "000002.jpg"), 1):
        save(run_folder / "pictures" / "front" / name, number)
    assert [int(picture[0, 0, 0]) for picture in opener(run_folder, "other")()] == [1, 2]
    save(run_folder / "pictures" / "wrist" / "000001.jpg", 5)

    assert [int(picture[0, 0, 0]) for picture in opener(run_folder, "wrist")()] == [5]
    with pytest.raises(CameraUnusable, match=r"kept pictures of front, wrist; expected one of these: .*pictures/front"):
        opener(run_folder, "other")


def test_a_run_that_kept_no_pictures_is_refused(run_folder: Path) -> None:
    """Its first frame is no recording."""
    with pytest.raises(CameraUnusable, match=r"a run that kept no pictures; expected one with record\.pictures = all"):
        opener(run_folder, "front")


def test_an_empty_folder_and_no_folder_are_refused(tmp_path: Path) -> None:
    """Each by its own text."""
    with pytest.raises(CameraUnusable, match=r"holds no picture; expected files that end in \.jpg, \.jpeg, \.png$"):
        opener(tmp_path)
    with pytest.raises(CameraUnusable, match="is not there; expected a folder of pictures or a video"):
        opener(tmp_path / "missing")


def test_a_video_needs_opencv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The text says what to install."""
    monkeypatch.setitem(sys.modules, "cv2", None)
    (tmp_path / "a.mp4").touch()
    with pytest.raises(CameraUnusable, match="pip install opencv-python-headless"):
        opener(tmp_path / "a.mp4")


def test_a_videos_pictures_are_rgb_and_it_is_let_go_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a fake OpenCV: blue first becomes red first; the file is released at the end, and when play stops."""
    given = deque([(True, np.full((6, 8, 3), (0, 0, 200), np.uint8))] * 2 + [(False, None)])
    released: list[int] = []
    video = SimpleNamespace(isOpened=lambda: True, read=given.popleft, release=lambda: released.append(1))
    cv2 = SimpleNamespace(
        VideoCapture=lambda _: video, COLOR_BGR2RGB=4, cvtColor=lambda picture, _: picture[..., ::-1].copy()
    )
    monkeypatch.setitem(sys.modules, "cv2", cv2)  # type: ignore[arg-type]  # no module, and need not be
    (tmp_path / "a.mp4").touch()
    begin = opener(tmp_path / "a.mp4")

    assert [picture[0, 0].tolist() for picture in begin()] == [[200, 0, 0]] * 2
    assert len(released) == 1
    given.append((True, np.zeros((6, 8, 3), np.uint8)))
    stopped = begin()
    next(stopped)
    stopped.close()  # type: ignore[attr-defined]  # a generator
    assert len(released) == 2
    video.isOpened = lambda: False
    with pytest.raises(CameraUnusable, match="cannot be read as a video"):
        next(begin())


def test_a_real_video_is_read(tmp_path: Path) -> None:
    """With OpenCV itself: as many pictures as were written, in their order and colours."""
    cv2 = pytest.importorskip("cv2", reason="needs OpenCV: pip install opencv-python-headless")
    video = cv2.VideoWriter(str(tmp_path / "a.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 10, (64, 48))
    for red in (50, 100, 150, 200):
        video.write(np.full((48, 64, 3), (0, 0, red), np.uint8))
    video.release()
    pictures = list(opener(tmp_path / "a.avi")())

    assert [round(float(picture[..., 0].mean()) / 50) for picture in pictures] == [1, 2, 3, 4]
    assert max(float(picture[..., 1:].mean()) for picture in pictures) < 10
