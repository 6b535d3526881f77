"""What the feed says: the daemon, its sessions, a session's frames, and the newest one's pictures, as plain values.

Knows reports and views; no request. Members that replies of the API have as well are called as there.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from PIL import Image

from stillframe.domain import CameraView, Step
from stillframe.sessions.session import EndedSession, SessionInfo
from stillframe.web.http.reply_metadata import reuse_report
from stillframe.web.live.history import Entry, LatestFrame, PicturedFrame

JPEG_QUALITY = 85

Document = dict[str, Any]


def entry_document(entry: Entry) -> Document:
    """One frame's figures, or the drift that a refresh measured."""
    place = {"number": entry.number, "at_s": round(entry.at_s, 3), "epoch": entry.epoch, "seq": entry.seq}
    if isinstance(entry.content, Step):
        return place | _step(entry.content)
    return place | {"drift": entry.content.drift, "refresh_ms": round(entry.content.duration_ms, 3)}


def _step(step: Step) -> Document:
    report = step.report
    return {
        **reuse_report(report.cache, None),
        "timing_ms": {name: round(took_ms, 3) for name, took_ms in report.stages_ms.items()},
        "total_ms": round(report.total_ms, 3),
        "passes": report.passes,
        "draft": asdict(report.draft),
        "batch": report.batch,
        "history": None if report.history is None else asdict(report.history),
        "action": step.chunk.actions[0].tolist(),
    }


def latest_document(latest: LatestFrame) -> Document:
    """A session's newest frame, how old it is, the last frames' time by stage, and the drift measured last."""
    return entry_document(latest.entry) | {
        "age_s": round(latest.age_s, 3),
        "median_ms": {name: round(took_ms, 3) for name, took_ms in latest.stages_ms.items()},
        "drift": latest.drift,
    }


def picture_document(frame: PicturedFrame) -> Document:
    """The newest frame's pictures, as JPEG files in base64, and the fate of each patch, a digit for each."""
    return {
        "number": frame.number,
        "epoch": frame.epoch,
        "seq": frame.seq,
        "instruction": frame.views.instruction,
        "actions": frame.step.chunk.actions.tolist(),
        "unnorm_key": frame.step.chunk.unnorm_key,
        "cameras": [_camera(name, view) for name, view in frame.views.cameras.items()],
    }


def _camera(name: str, view: CameraView) -> Document:
    rows, columns = view.patches.shape
    height, width = view.picture.shape[:2]
    sink = io.BytesIO()
    Image.fromarray(view.picture).save(sink, "JPEG", quality=JPEG_QUALITY)
    return {
        "name": name,
        "width": width,
        "height": height,
        "rows": rows,
        "columns": columns,
        "patches": "".join(map(str, view.patches.ravel().tolist())),
        "jpeg": base64.b64encode(sink.getvalue()).decode(),
    }


def session_document(info: SessionInfo, summary: Mapping[str, Any] | None) -> Document:
    """One session of the list: what /v1/sessions says of it, and figures of its last frames."""
    return asdict(info) | {"recent": None if summary is None else dict(summary)}


def ended_document(session: EndedSession) -> Document:
    """One session that ended not long ago."""
    return asdict(session)
