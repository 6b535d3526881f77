"""Multipart forms: pictures as files, all other fields in one JSON part, or `state` in its own. Source: RFC 7578.

Knows no camera. The body is in memory and within its limit; parts and their headers are counted.
"""

from __future__ import annotations

import logging
import reprlib
from dataclasses import dataclass, field
from typing import Any

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from stillframe.errors import BadRequest, TooLarge
from stillframe.web.http.limits import Limits
from stillframe.web.http.parsing import Fields, parse_json, parse_json_value

JSON_PART = "json"  # as CogACT's clients call it
STATE_PART = "state"  # JSON too
_HEADERS, _HEADER_BYTES = 8, 1024  # of one part
_QUIET = logging.Logger("forms", logging.CRITICAL)  # the parser logs each bad form: clients could fill the log


def read_form(body: bytes, content_type: str, limits: Limits) -> Fields:
    """Read {part's name: its bytes}, and the members of the part `json`, which holds an object.

    Raises BadRequest for a form that is not one or says a thing twice, TooLarge for too many parts.
    """
    form = _Form(limits.max_images)
    try:
        parser = MultipartParser(
            _boundary(content_type), form.callbacks(), max_header_count=_HEADERS, max_header_size=_HEADER_BYTES
        )
        parser.logger = _QUIET
        parser.write(body)
        parser.finalize()
    except FormParserError as error:
        raise BadRequest("bad-codec", "The form's parts do not follow RFC 7578 (multipart/form-data).") from error
    if not form.complete:
        raise BadRequest("bad-codec", "The form ends before its last boundary; send it whole.")
    said = parse_json(form.parts.pop(JSON_PART, b"{}"), limits.max_json_parts)
    for name in said:
        if name in form.parts:
            detail = f"The form has {reprlib.repr(name)} as a part and in its part {JSON_PART!r}; send it once."
            raise BadRequest("bad-codec", detail)
    if STATE_PART in form.parts:
        said = {**said, STATE_PART: _state(form.parts.pop(STATE_PART), limits)}
    return {**form.parts, **said}


def _state(data: bytes, limits: Limits) -> Any:
    try:
        return parse_json_value(data, limits.max_json_parts)
    except BadRequest as error:
        error.pointer = f"/{STATE_PART}"
        raise


def _boundary(content_type: str) -> bytes:
    _, options = parse_options_header(content_type)
    boundary = options.get(b"boundary", b"")
    if not 1 <= len(boundary) <= 70:
        raise BadRequest("bad-codec", "The content type names no boundary of 1 to 70 characters.")
    return boundary


@dataclass
class _Form:
    """The parser's callbacks: collect each part under its name."""

    most_files: int
    parts: dict[str, bytes] = field(default_factory=dict)
    complete: bool = False
    _header: bytes = b""
    _value: bytes = b""
    _name: str | None = None
    _data: list[bytes] = field(default_factory=list)

    def callbacks(self) -> Any:
        """The parser's events that matter here."""
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._on_header,
            "on_header_value": self._on_value,
            "on_header_end": self._end_header,
            "on_part_data": self._on_data,
            "on_part_end": self._end,
            "on_end": self._complete,
        }

    def _begin(self) -> None:
        if len(self.parts) > self.most_files:
            detail = f"The form has over {self.most_files} parts beside {JSON_PART!r}; send fewer pictures."
            raise TooLarge("too-many-images", detail)
        self._name, self._data, self._header, self._value = None, [], b"", b""

    def _on_header(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _on_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        if self._header.lower() == b"content-disposition":
            _, options = parse_options_header(self._value.decode("latin-1"))
            self._name = options.get(b"name", b"").decode("latin-1")
        self._header, self._value = b"", b""

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        self._data.append(data[start:end])

    def _end(self) -> None:
        if not self._name or self._name in self.parts:
            name = "no name" if not self._name else f"the name {reprlib.repr(self._name)}, as another has too"
            raise BadRequest("bad-codec", f"A part of the form has {name}.")
        self.parts[self._name] = b"".join(self._data)

    def _complete(self) -> None:
        self.complete = True
