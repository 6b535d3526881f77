"""Select a posted frame's dialect by route, codec and keys.

Knows no session. Clients of every family post to /act; routes under /v1 are native.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from stillframe.errors import BadRequest
from stillframe.web.dialects.base import Dialect
from stillframe.web.dialects.cogact import COGACT
from stillframe.web.dialects.native import BINARY_NATIVE, JSON_NATIVE
from stillframe.web.dialects.openvla import OPENVLA, DoubleEncoded
from stillframe.web.dialects.openvla_oft import FULL_IMAGE, OPENVLA_OFT
from stillframe.web.http.codecs import FORM, JSON, MSGPACK, Codec
from stillframe.web.http.parsing import Fields, parse_json

Selector = Callable[[Fields, Codec, int], tuple[Dialect, Fields]]  # fields, codec, most JSON parts


def native_by_codec(fields: Fields, codec: Codec, max_parts: int) -> tuple[Dialect, Fields]:  # noqa: ARG001 (a Selector)
    """The native wire; a form's files are pictures by their cameras."""
    if codec is not FORM:
        return (BINARY_NATIVE if codec is MSGPACK else JSON_NATIVE), fields
    pictures = {name: value for name, value in fields.items() if isinstance(value, bytes)}
    rest = {name: value for name, value in fields.items() if name not in pictures}
    return JSON_NATIVE, fields if list(pictures) == ["image"] else {**rest, "images": pictures}


def by_json_keys(fields: Fields, codec: Codec, max_parts: int) -> tuple[Dialect, Fields]:
    """Select by a JSON frame's keys, and unwrap a double-encoded one. Raises BadRequest."""
    if codec is not JSON:
        return native_by_codec(fields, codec, max_parts)
    if "encoded" not in fields:
        return _by_json_keys(fields), fields
    if len(fields) > 1 or not isinstance(fields["encoded"], str):
        detail = "'encoded' has to be the only key, and its value a string of JSON."
        raise BadRequest("bad-codec", detail, pointer="/encoded")
    inner = parse_json(fields["encoded"], max_parts)
    return DoubleEncoded(_by_json_keys(inner)), inner


def cogact_form(fields: Fields, codec: Codec, max_parts: int) -> tuple[Dialect, Fields]:  # noqa: ARG001 (a Selector)
    """A form with a picture."""
    return COGACT, fields


def with_whole_chunks(choose: Selector) -> Selector:
    """Select as `choose` does, but nothing whose reply is a chunk's first action alone."""

    def select(fields: Fields, codec: Codec, max_parts: int) -> tuple[Dialect, Fields]:
        dialect, inner = choose(fields, codec, max_parts)
        return (JSON_NATIVE if dialect is OPENVLA else dialect), inner

    return select


def _by_json_keys(fields: Fields) -> Dialect:
    """Select by a key that one family sends; a frame of arrays gets an array back."""
    if FULL_IMAGE in fields:
        return OPENVLA_OFT
    images = fields.get("images")
    pictures = list(images.values()) if isinstance(images, dict) else [fields.get("image")]
    return OPENVLA if all(isinstance(picture, dict) for picture in pictures) else JSON_NATIVE


ROUTES: Mapping[str, Selector] = MappingProxyType(
    {
        "/act": by_json_keys,
        "/api/inference": cogact_form,
        "/v1/act": native_by_codec,
        "/v1/sessions/{session_id}/act": native_by_codec,
    }
)
