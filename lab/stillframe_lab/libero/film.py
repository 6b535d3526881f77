"""Animations of episodes: each picture that the player looked at, one camera beside the other.

Knows pictures and files; draws nothing that is not drawn anyway.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from stillframe.errors import ConfigError
from stillframe_lab.libero.episode import Draw, PlayedEpisode
from stillframe_lab.libero.pictures import Picture, upright
from stillframe_lab.libero.process import Pictures

FRAME_MS = 100
QUALITY = 80


@dataclass(frozen=True)
class Film:
    """Where the animations go."""

    folder: Path

    def __post_init__(self) -> None:
        """Make the folder, before an hour is spent. Raises ConfigError."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"cannot make {self.folder}: {error.strerror}; choose another --video") from error

    def reel(self, draw: Draw) -> Reel:
        """For one episode."""
        return Reel(self.folder, draw)


@dataclass
class Reel:
    """The pictures of one episode, as they are drawn."""

    folder: Path
    shoot: Draw
    pictures: list[Picture] = field(default_factory=list)

    def draw(self, cameras: Sequence[str]) -> Pictures:
        """Draw, and keep a copy."""
        drawn = self.shoot(cameras)
        self.pictures.append(np.hstack([upright(one) for one in drawn.values()]))
        return drawn

    def save(self, played: PlayedEpisode) -> None:
        """As task-3-state-07-success.webp."""
        end = "success" if played.success else "failure"
        file = self.folder / f"task-{played.id.task}-state-{played.id.init_state:02}-{end}.webp"
        first, *rest = [Image.fromarray(one) for one in self.pictures]
        first.save(file, save_all=True, append_images=rest, duration=FRAME_MS, quality=QUALITY)
