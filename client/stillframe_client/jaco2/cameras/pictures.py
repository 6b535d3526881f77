"""Pictures from files: those of a folder in the order of their names, or a video's. Knows no time.

In names, numbers count as numbers: 2.jpg comes before 10.jpg.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Callable, Iterator, List, Tuple, Union

import numpy as np
import PIL.Image
import PIL.ImageOps

from stillframe_client.jaco2.cameras.base import CameraUnusable
from stillframe_client.jaco2.cameras.cv import as_rgb, load_cv2

if TYPE_CHECKING:
    from pathlib import Path

    from stillframe_client.jaco2.cameras.base import Picture

SUFFIXES = (".jpg", ".jpeg", ".png")
MODES = ("RGB", "RGBA", "L", "P")  # 8 bits a channel


def opener(path: Path, camera: str = "") -> Callable[[], Iterator[Picture]]:
    """A function that begins with the first picture, each time that it is called. Raises CameraUnusable.

    `path`: a folder of JPEGs and PNGs (its subfolders are not looked at), one such file, a video that OpenCV reads, or
    the folder of a bridge's run: then what it kept of `camera`, or of its only one.
    """
    if path.is_dir():
        files = _files(_recorded(path, camera))
        return lambda: map(read_picture, files)
    if not path.is_file():
        raise CameraUnusable(f"{path} is not there; expected a folder of pictures or a video")
    if path.suffix.lower() in SUFFIXES:
        return lambda: map(read_picture, [path])
    cv2 = load_cv2()
    return lambda: _video(cv2, path)


def read_picture(file: Path) -> Picture:
    """RGB uint8 [height, width, 3]; transparency is dropped and a turned photograph set upright, as the daemon does.

    Raises CameraUnusable for what is no picture of 8 bits a channel.
    """
    try:
        with PIL.Image.open(file) as image:
            if image.mode not in MODES:
                raise CameraUnusable(f"{file} is a picture of type {image.mode}; expected 8-bit RGB or grey")
            upright = PIL.ImageOps.exif_transpose(image)
            return np.array((upright.convert("RGBA") if image.mode == "P" else upright).convert("RGB"))
    except (OSError, SyntaxError, ValueError, PIL.Image.DecompressionBombError) as error:
        raise CameraUnusable(f"{file} cannot be read as a picture: {error}") from error


def _recorded(folder: Path, camera: str) -> Path:
    """Where a run kept its pictures; any other folder is given back."""
    kept = folder / "pictures"
    if not kept.is_dir() and not (folder / "frames.jsonl").is_file():
        return folder
    names = sorted(each.name for each in kept.iterdir() if each.is_dir()) if kept.is_dir() else []
    if camera in names or len(names) == 1:
        return kept / (camera if camera in names else names[0])
    if not names:
        raise CameraUnusable(f"{folder} is a run that kept no pictures; expected one with record.pictures = all")
    raise CameraUnusable(f"{folder} kept pictures of {', '.join(names)}; expected one of these: {kept / names[0]}")


def _files(folder: Path) -> List[Path]:
    files = [file for file in folder.iterdir() if file.suffix.lower() in SUFFIXES and file.is_file()]
    if not files:
        inside = sorted(
            {
                file.parent.relative_to(folder).as_posix()
                for file in [*folder.glob("*/*.jp*g"), *folder.glob("*/*/*.jp*g")]
            }
        )
        meant = f": did you mean its folder {' or '.join(inside[:3])}?" if inside else ""
        raise CameraUnusable(f"{folder} holds no picture; expected files that end in {', '.join(SUFFIXES)}{meant}")
    return sorted(files, key=lambda file: (_counted(file.name), file.name))


def _counted(name: str) -> List[Tuple[Union[str, int], ...]]:
    """Text and numbers by turns, so that like is compared with like."""
    return [(text, int(digits)) for text, digits in re.findall(r"(\D*)(\d+)", f"{name.lower()}0")]


def _video(cv2: Any, path: Path) -> Iterator[Picture]:
    video = cv2.VideoCapture(str(path))
    try:
        if not video.isOpened():
            raise CameraUnusable(f"{path} cannot be read as a video by OpenCV; expected one, or a folder of pictures")
        there, picture = video.read()
        while there:
            yield as_rgb(cv2, picture)
            there, picture = video.read()
    finally:
        video.release()
