"""Settings as a commented TOML file: what --print-config prints, and what configs/jaco2.toml is made of.

Knows no setting by name: descriptions, units and ranges are the schema's. `config.load` reads the same settings back.
"""

from __future__ import annotations

import json
import re
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Iterator, List, Mapping

from stillframe_client.jaco2.settings import SECTIONS, CameraSettings
from stillframe_client.jaco2.settings_fields import range_of, unit_of

if TYPE_CHECKING:
    from stillframe_client.jaco2.settings import BridgeSettings

HEAD = (
    "The Jaco2 bridge's settings: stillframe-jaco2 --config FILE reads them, --print-config prints those in effect.",
    "No limit can be set beyond what the arm is built for.",
)
_BARE = re.compile(r"[A-Za-z0-9_-]+")


def as_toml(settings: BridgeSettings) -> str:
    """The settings as TOML, each with what it is, its unit and what it may be."""
    lines = [f"# {line}" for line in HEAD]
    for name, kind in SECTIONS.items():
        lines += ["", *_section(name, kind, getattr(settings, name))]
        if name == "policy":
            lines += [line for camera in _cameras(settings.cameras) for line in ("", *camera)]
    return "\n".join(lines) + "\n"


def _cameras(cameras: Mapping[str, CameraSettings]) -> Iterator[List[str]]:
    for number, (name, camera) in enumerate(cameras.items()):
        yield _section(f"cameras.{_key(name)}", CameraSettings, camera, explained=not number)


def _section(title: str, kind: Any, values: Any, *, explained: bool = True) -> List[str]:
    """One table; a second camera's fields are those of the first, and are not explained again."""
    doc = (kind.__doc__ or "").splitlines()[0]
    lines = [f"# {doc}"] if explained else []
    if kind is CameraSettings and explained:
        lines.append("# The section is named as the policy names the camera; one for each.")
    lines.append(f"[{title}]")
    for part in fields(kind):
        if explained:
            lines.append(f"# {_about(part.name, part.metadata)}")
        lines.append(_line(part.name, getattr(values, part.name)))
    return lines


def _about(name: str, about: Any) -> str:
    unit, may_be = unit_of(name), range_of(about)
    measure = " ".join(part for part in (may_be, unit) if part)
    return f"{about['description']} [{measure}]" if measure else str(about["description"])


def _line(name: str, value: Any) -> str:
    return f'# {name} = ""' if value is None else f"{name} = {_value(value)}"  # TOML has no word for none


def _value(value: Any) -> str:
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, tuple):
        return f"[{', '.join(map(_value, value))}]"
    return repr(value)


def _text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else _text(name)
