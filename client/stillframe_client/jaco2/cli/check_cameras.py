"""Of `check`: opens each camera, measures it for a while, saves its first frame for the operator to look at."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Dict, List, Tuple

from stillframe_client.jaco2.cameras import make_camera
from stillframe_client.jaco2.cameras.base import CameraError
from stillframe_client.jaco2.cameras.first_frame import save_first_frame

if TYPE_CHECKING:
    from stillframe_client.jaco2.cameras.base import Camera, Frame, Picture
    from stillframe_client.jaco2.cli.findings import Findings
    from stillframe_client.jaco2.settings import BridgeSettings

START_S = 15.0
LOOK_S = 0.003
FOLDER = "check"
SLOW = 0.8  # share of the rate that was asked for


def check_cameras(settings: BridgeSettings, seconds: float, findings: Findings) -> Dict[str, Picture]:
    """Say what each camera gives; return a frame of those that work."""
    pictures: Dict[str, Picture] = {}
    folder = Path(settings.record.folder) / FOLDER
    for name, camera in settings.cameras.items():
        try:
            opened = make_camera(name, camera, settings)
            pictures[name] = _look(name, opened, settings, seconds, folder, findings)
        except (CameraError, ImportError) as error:
            findings.wrong(name, str(error))
    return pictures


def _look(
    name: str, camera: Camera, settings: BridgeSettings, seconds: float, folder: Path, findings: Findings
) -> Picture:
    try:
        camera.start(START_S)
        first = camera.latest()
        height, width = first.picture.shape[:2]
        findings.ok(name, f"{width} x {height} as sent; first frame: {_saved(name, first, folder, findings)}")
        frames, oldest_s = _frames(camera, seconds)
    finally:
        camera.close()
    _rate(name, frames, oldest_s, settings, findings)
    return first.picture


def _saved(name: str, frame: Frame, folder: Path, findings: Findings) -> str:
    file = folder / f"{name}.png"
    try:
        save_first_frame(frame, file)
    except CameraError as error:
        findings.warning(name, f"its first frame was not saved: {error}")
        return "not saved"
    return str(file)


def _frames(camera: Camera, seconds: float) -> Tuple[List[Frame], float]:
    """Every frame of a while, and how old the newest one ever was."""
    frames: List[Frame] = []
    oldest_s, until_s = 0.0, time.monotonic() + seconds
    while time.monotonic() < until_s:
        frame = camera.latest()
        oldest_s = max(oldest_s, time.monotonic() - frame.time_s)
        if not frames or frames[-1].seq != frame.seq:
            frames.append(frame)
        time.sleep(LOOK_S)
    return frames, oldest_s


def _rate(name: str, frames: List[Frame], oldest_s: float, settings: BridgeSettings, findings: Findings) -> None:
    camera = settings.cameras[name]
    past_s = frames[-1].time_s - frames[0].time_s
    rate = (frames[-1].seq - frames[0].seq) / past_s if past_s > 0 else 0.0
    text = f"{rate:.1f} frames a second; the newest was at most {1e3 * oldest_s:.0f} ms old"
    if rate < settings.policy.hz * settings.limits.speed:
        findings.wrong(name, f"{text}: slower than the policy is asked")
    elif rate < SLOW * camera.fps:
        findings.warning(name, f"{text}: {camera.fps:g} were asked for; dark rooms and USB 2 slow a camera down")
    else:
        findings.ok(name, text)
