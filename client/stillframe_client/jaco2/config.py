"""Reads a bridge's configuration: TOML, YAML or JSON, one schema (settings.py), all faults in one text.

Knows no arm. A missing file, an unknown name, a wrong type, a number over a ceiling: ConfigError, and nothing moves.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import typing
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional, Tuple

from stillframe_client.jaco2.settings import SECTIONS, BridgeSettings, CameraSettings
from stillframe_client.jaco2.settings_fields import MOST

INSTALL = "pip install 'stillframe-client[jaco2]'"


class ConfigError(Exception):
    """A configuration that is not used; the text names every fault in it."""


def load(file: Optional[Path], overrides: Mapping[str, Any] = {}) -> BridgeSettings:
    """Read a file, or take the defaults; `overrides` are dotted names, such as {"limits.speed": 1.0}.

    Raises ConfigError.
    """
    document = {} if file is None else _read(file)
    for name, value in overrides.items():
        document = _with(document, name.split("."), value)
    said = "" if not overrides else f" with {', '.join(overrides)} as given"
    return parse(document, f"{'the defaults' if file is None else file}{said}")


def changed(settings: BridgeSettings, overrides: Mapping[str, Any]) -> BridgeSettings:
    """The settings with dotted names set to other values. Raises ConfigError."""
    document: Any = as_document(settings)
    for name, value in overrides.items():
        document = _with(document, name.split("."), value)
    return parse(document, f"{', '.join(overrides)} as given")


def _with(document: Any, names: List[str], value: Any) -> Any:
    """The document with one value set; where there is no section to set it in, `parse` says what is wrong."""
    if not names:
        return value
    if not isinstance(document, dict):
        return document
    return {**document, names[0]: _with(document.get(names[0], {}), names[1:], value)}


def parse(document: Any, source: str) -> BridgeSettings:
    """Settings of a document. Raises ConfigError."""
    if not isinstance(document, dict):
        raise ConfigError(f"{source} holds a {type(document).__name__}; expected sections: {', '.join(_names())}")
    faults: List[str] = []
    _unknown("", document, _names(), faults)
    sections = {name: _section(name, kind, document.get(name, {}), faults) for name, kind in SECTIONS.items()}
    cameras = _cameras(document.get("cameras", {"front": {}}), faults)
    if faults:
        raise ConfigError(f"{source} cannot be used:\n" + "\n".join(f"  - {fault}" for fault in faults))
    return BridgeSettings(cameras=cameras, **sections)


def as_document(settings: BridgeSettings) -> Dict[str, Any]:
    """The settings as plain values; `parse` reads them back."""
    document = dataclasses.asdict(settings)
    return typing.cast("Dict[str, Any]", json.loads(json.dumps(document)))


def _names() -> List[str]:
    return [*SECTIONS, "cameras"]


def _cameras(given: Any, faults: List[str]) -> Dict[str, CameraSettings]:
    if not isinstance(given, dict) or not given:
        faults.append(
            "cameras: expected a section for each camera, named as the policy names it, as in [cameras.front]"
        )
        return {}
    read = {name: _section(f"cameras.{name}", CameraSettings, fields, faults) for name, fields in given.items()}
    return {str(name): camera for name, camera in read.items() if camera is not None}


def _section(name: str, kind: Any, given: Any, faults: List[str]) -> Any:
    if not isinstance(given, dict):
        faults.append(f"{name}: expected a section with names and values, not {_shown(given)}")
        return None
    hints = typing.get_type_hints(kind)
    _unknown(f"{name}.", given, list(hints), faults)
    values: Dict[str, Any] = {}
    for key, value in given.items():
        if key in hints:
            typed, fault = _typed(value, hints[key])
            if fault:
                faults.append(f"{name}.{key} is {_shown(value)}; expected {fault}")
            values[key] = typed
    try:
        return kind(**{key: value for key, value in values.items() if value is not None})
    except ValueError as error:
        faults += [f"{name}.{fault}" for fault in str(error).splitlines()]
    return None


def _shown(value: Any) -> str:
    return f"{value!r:.60}"


def _typed(value: Any, hint: Any) -> Tuple[Any, str]:
    """The value as its type, and what was expected where it is not of it."""
    if hint == Optional[str] and value is None:
        return None, ""
    if hint in (str, Optional[str]):
        return (value, "") if isinstance(value, str) else (None, "text, in quotes")
    if isinstance(value, bool):
        return None, "a number"
    if hint is int:
        return (value, "") if isinstance(value, int) else (None, "a whole number")
    if hint is float:
        return (float(value), "") if _is_number(value) else (None, "a number")
    numbers = isinstance(value, (list, tuple)) and all(map(_is_number, value))
    return (tuple(float(part) for part in value), "") if numbers else (None, "a list of numbers")


def _is_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return isinstance(value, float) or abs(value) <= MOST


def _unknown(prefix: str, given: Mapping[Any, Any], known: List[str], faults: List[str]) -> None:
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(str(name), known, 1)
            meant = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(known)}"
            faults.append(f"{prefix}{name} is not known: {meant}")


def _read(file: Path) -> Any:
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} cannot be read: {error}") from error
    readers: Dict[str, Callable[[str], Any]] = {".toml": _toml, ".yaml": _yaml, ".yml": _yaml, ".json": json.loads}
    reader = readers.get(file.suffix.lower())
    if reader is None:
        raise ConfigError(f"{file} ends in {file.suffix or 'nothing'}; expected .toml, .yaml or .json")
    try:
        document = reader(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{file} is not readable as {file.suffix[1:].upper()}: {error}") from error
    return {} if document is None else document


def _toml(text: str) -> Any:
    try:
        import tomllib
    except ImportError:
        try:
            import tomli as tomllib  # type: ignore[import-not-found,no-redef,unused-ignore]  # before Python 3.11
        except ImportError as missing:
            raise ConfigError(f"TOML needs Python 3.11 or tomli: {INSTALL}, or write YAML") from missing
    return tomllib.loads(text)


def _yaml(text: str) -> Any:
    try:
        import yaml
    except ImportError as missing:
        raise ConfigError(f"YAML needs PyYAML: {INSTALL}, or write TOML") from missing
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error
