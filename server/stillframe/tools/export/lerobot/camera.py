"""One camera's video files of a LeRobot dataset, and the statistics of its pictures.

Knows where an episode lies in them; no recording.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stillframe.domain import Image
from stillframe.tools.export.film import CODEC_NAME, PIXELS, Film
from stillframe.tools.export.lerobot.features import IMAGES, plain
from stillframe.tools.export.lerobot.stats import PictureStats
from stillframe.tools.export.lerobot.tables import file_name, place_of

FILM_BYTES = 200 * 2**20  # of one video file, beyond which the next episode begins another


class CameraFiles:
    """One camera's video files and statistics."""

    def __init__(self, out: Path, name: str, fps: int):
        self.key = IMAGES + plain(name)
        self.all = PictureStats()
        self.episode = PictureStats()
        self._began_s = 0.0  # the episode, in its file
        self._number = 0  # of that file
        self._folder, self._fps = out / "videos" / self.key, fps
        self._film = Film(file_name(self._folder, 0, "mp4"), fps)

    def begin(self) -> None:
        """The next episode's pictures come."""
        if self._film.frames and self._film.nbytes > FILM_BYTES:
            self._film.close()
            self._number += 1
            self._film = Film(file_name(self._folder, self._number, "mp4"), self._fps)
        self._began_s, self.episode = self._film.seconds, PictureStats()

    def add(self, picture: Image) -> None:
        """Add one."""
        self._film.add(picture, begins=self.episode.pictures == 0)
        self.episode.add(picture)

    def end(self) -> dict[str, Any]:
        """The episode's place in the files."""
        self.all.merge(self.episode)
        place = place_of(self._number) | {"from_timestamp": self._began_s, "to_timestamp": self._film.seconds}
        return {f"videos/{self.key}/{name}": value for name, value in place.items()}

    def close(self) -> None:
        """End the file."""
        self._film.close()

    @property
    def described(self) -> dict[str, Any]:
        """As meta/info.json has it."""
        height, width = self._film.size or (0, 0)
        info = {
            "video.height": height,
            "video.width": width,
            "video.codec": CODEC_NAME,
            "video.pix_fmt": PIXELS,
            "video.is_depth_map": False,
            "video.fps": self._fps,
            "video.channels": 3,
            "has_audio": False,
        }
        return {"dtype": "video", "shape": [height, width, 3], "names": ["height", "width", "channels"], "info": info}
