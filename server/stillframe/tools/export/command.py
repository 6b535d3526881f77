"""`stillframe export`: a recording, episode by episode, in the format that is asked for.

Knows formats by name and the extras that they need; what a format holds is in its own module, imported on use.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from stillframe.errors import ConfigError
from stillframe.recording.reader import RecordedEpisode, WholeEpisode, check_pictures, whole_episodes
from stillframe.tools.export.frames import Advance, Warn, rate_hz
from stillframe.tools.extras import require_extras

ExportFormat = Literal["rrd", "lerobot", "mcap", "video"]
EXTRAS: dict[ExportFormat, str] = {
    "rrd": "export-rerun",
    "lerobot": "export-lerobot",
    "mcap": "export-mcap",
    "video": "export-video",
}


def export(
    episodes: Sequence[RecordedEpisode],
    to: ExportFormat,
    out: Path,
    *,
    fps: int | None = None,
    warn: Warn,
    advance: Advance,
) -> list[Path]:
    """Write all episodes into the new or empty folder `out` -> what was written, as one opens it.

    `fps`: frames a second of what has a constant rate; None: that of the recording.
    Raises ConfigError for a package that is not installed, or a folder that cannot be filled; StillframeError where
    pictures were not kept.
    """
    require_extras(EXTRAS[to])
    check_pictures(episodes)
    _make_empty(out)
    whole = whole_episodes(episodes)
    rate = fps or rate_hz(whole)
    if to == "lerobot":
        from stillframe.tools.export.lerobot.dataset import export_lerobot

        return [export_lerobot(whole, out, rate, warn, advance)]
    return [_one(episode, to, out, rate, warn, advance) for episode in whole]


def _one(episode: WholeEpisode, to: ExportFormat, out: Path, fps: int, warn: Warn, advance: Advance) -> Path:
    if to == "rrd":
        from stillframe.tools.export.rrd import export_rrd

        return export_rrd(episode, out, warn, advance)
    if to == "mcap":
        from stillframe.tools.export.mcap import export_mcap

        return export_mcap(episode, out, warn, advance)
    from stillframe.tools.export.video import export_video

    return export_video(episode, out, fps, warn, advance)


def _make_empty(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
        taken = next(out.iterdir(), None)
    except OSError as error:
        raise ConfigError(f"cannot fill {out}: {error.strerror}; choose another --out") from error
    if taken is not None:
        raise ConfigError(f"{out} holds {taken.name}; an export goes into a new or empty folder: choose another --out")
