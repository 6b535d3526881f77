"""One deployment's YAML, checked: unknown keys are refused with the closest name.

Knows names and bounds; opens nothing but the YAML.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, get_type_hints

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from stillframe.errors import ConfigError, closest
from stillframe.reuse.settings import ReuseSettings

Device = Literal["auto", "cpu", "cuda"]


class DaemonConfig(BaseModel):
    """What `stillframe serve` runs. Every key, with what it means."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    checkpoint: Path = Field(description="folder in the layout of openvla-7b; relative to where the daemon starts")
    device: Device = Field("auto", description="auto: a GPU where there is one")
    dtype: Literal["auto", "float32", "bfloat16"] = Field("auto", description="auto: float32 on a CPU, else bfloat16")
    threads: int | None = Field(None, ge=1, description="CPU threads for the model; null: torch decides")
    host: str = Field("127.0.0.1", description="address to listen on; loopback unless you say otherwise")
    port: int = Field(8000, ge=0, le=65535, description="TCP port; 0: any free one, named in the log")
    queue_frames: int = Field(32, ge=1, le=4096, description="frames that may wait; more are answered 503")
    max_body_mib: float = Field(16, gt=0, le=256, description="largest request body")
    max_image_pixels: int = Field(4_000_000, ge=64, description="most pixels of one picture, before decoding")
    default_max_age_ms: float = Field(
        10_000, gt=0, le=60_000, description="a frame that waits longer is answered 504; a request may say max_age_ms"
    )
    reuse: ReuseSettings = Field(
        default_factory=ReuseSettings, description="what a session keeps between frames; see reuse/settings.py"
    )
    record: Path | None = Field(None, description="folder in which sessions' answered frames are kept; null: nowhere")
    record_max_mib: float = Field(
        1024, ge=1, le=10_000_000, description="most that `record` may take up; beyond, the oldest episodes go"
    )


def load_config(file: Path | None, overrides: Mapping[str, Any]) -> DaemonConfig:
    """Read a YAML, if any, and lay the command line's `overrides` over it (None: not given)."""
    values = {} if file is None else _read(file)
    values |= {key: value for key, value in overrides.items() if value is not None}
    try:
        # As JSON, in which strict types still let an object become a section and a string a path.
        return DaemonConfig.model_validate_json(json.dumps(values, default=str))
    except ValidationError as error:
        source = "the command line" if file is None else str(file)
        raise ConfigError(f"{source}: " + "; ".join(_explained(fault) for fault in error.errors())) from error


def _read(file: Path) -> dict[str, Any]:
    """A YAML mapping with string keys."""
    try:
        values = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read {file}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} is not YAML: {error}") from error
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise ConfigError(f"{file}: expected a mapping such as 'checkpoint: checkpoints/jaco-tiny'")
    reuse = values.get("reuse")
    if isinstance(reuse, dict) and reuse.get("mode") is False:
        reuse["mode"] = "off"  # which is how YAML reads a bare off
    return values


def _explained(fault: Any) -> str:
    """One line for one wrong key."""
    key = ".".join(str(part) for part in fault["loc"])
    if fault["type"] in {"extra_forbidden", "unexpected_keyword_argument"}:
        known = _keys_beside(key)
        return f"unknown key {key!r}.{closest(key.split('.')[-1], known) or ' Known: ' + ', '.join(known)}"
    if fault["type"] == "missing":
        return f"{key!r} is missing: {DaemonConfig.model_fields[key].description}"
    if fault["type"] == "value_error":  # of a section: its text names the key
        return f"{key!r}: {fault['ctx']['error']}"
    return f"{key!r} is {fault['input']!r}: {fault['msg'][0].lower()}{fault['msg'][1:]}"


def _keys_beside(key: str) -> list[str]:
    """The keys of the section that `key` stands in."""
    *section, _ = key.split(".")
    model: Any = DaemonConfig
    for name in section:
        model = _keys(model)[name]
    return list(_keys(model))


def _keys(model: Any) -> dict[str, Any]:
    """Key -> the type of its value."""
    if is_dataclass(model):
        return {part.name: get_type_hints(model)[part.name] for part in fields(model)}
    return {name: field.annotation for name, field in model.model_fields.items()}
