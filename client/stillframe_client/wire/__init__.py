"""The wire, said once: what the daemon and its clients both read and write. Knows no connection."""

from stillframe_client.errors import UnsupportedDtype, WireError
from stillframe_client.wire.arrays import DTYPES, decode_array, decode_base64, encode_array, is_array
from stillframe_client.wire.documents import read_json
from stillframe_client.wire.markers import meaning_of
from stillframe_client.wire.messages import JSON, MSGPACK, Codec
from stillframe_client.wire.names import (
    CACHE_HEADER,
    CAMERAS_HEADER,
    DONE,
    FATAL,
    GOING,
    HISTORY_HEADER,
    IDEMPOTENCY_HEADER,
    JSON_PROTOCOL,
    LATER,
    MAX_COUNT,
    MAX_SESSION_ID,
    MAX_STATE_NUMBERS,
    MSGPACK_PROTOCOL,
    PLACE_HEADER,
    POLICY,
    RESTART,
    SECRET_HEADER,
    SESSION_HEADER,
    SESSION_ID_RULE,
    TOO_BIG,
    WARNING_HEADER,
    is_session_id,
)
from stillframe_client.wire.packing import pack, unpack
from stillframe_client.wire.parts import PackLimits, read_value

__all__ = [
    "CACHE_HEADER",
    "CAMERAS_HEADER",
    "DONE",
    "DTYPES",
    "FATAL",
    "GOING",
    "HISTORY_HEADER",
    "IDEMPOTENCY_HEADER",
    "JSON",
    "JSON_PROTOCOL",
    "LATER",
    "MAX_COUNT",
    "MAX_SESSION_ID",
    "MAX_STATE_NUMBERS",
    "MSGPACK",
    "MSGPACK_PROTOCOL",
    "PLACE_HEADER",
    "POLICY",
    "RESTART",
    "SECRET_HEADER",
    "SESSION_HEADER",
    "SESSION_ID_RULE",
    "TOO_BIG",
    "WARNING_HEADER",
    "Codec",
    "PackLimits",
    "UnsupportedDtype",
    "WireError",
    "decode_array",
    "decode_base64",
    "encode_array",
    "is_array",
    "is_session_id",
    "meaning_of",
    "pack",
    "read_json",
    "read_value",
    "unpack",
]
