"""The shapes of what is asked, by the names that /openapi.json gives them.

Knows no route: which shape goes where is said in descriptions.py. The daemon's own readers judge; these tell people.
"""

from __future__ import annotations

from stillframe.domain import REUSE_MODES
from stillframe.web.dialects.described import DIALECT_SCHEMAS
from stillframe.web.openapi.pieces import Schema, ref
from stillframe_client.wire import MAX_COUNT, MAX_SESSION_ID, SESSION_ID_RULE

_ARRAY: Schema = {
    "type": "object",
    "description": "A json_numpy array: base64 of C-order bytes.",
    "required": ["__numpy__", "dtype", "shape"],
    "properties": {
        "__numpy__": {"type": "string", "contentEncoding": "base64"},
        "dtype": {"type": "string"},
        "shape": {"type": "array", "items": {"type": "integer"}},
    },
}
_PICTURE: Schema = {
    "oneOf": [
        {"$ref": "#/components/schemas/Array"},
        {"type": "string", "description": "base64 of a JPEG or PNG file, bare or as a data: URI"},
    ]
}
_SESSION_ID: Schema = {
    "type": "string",
    "minLength": 1,
    "maxLength": MAX_SESSION_ID,
    "description": f"whose frame it is: {SESSION_ID_RULE}; without one nothing outlives the frame",
}
_COUNT: Schema = {"type": ["integer", "null"], "minimum": 0, "maximum": MAX_COUNT}
_FRAME: Schema = {
    "type": "object",
    "oneOf": [{"required": ["image"]}, {"required": ["images"]}],
    "properties": {
        "image": {"$ref": "#/components/schemas/Picture"},
        "images": {"type": "object", "additionalProperties": {"$ref": "#/components/schemas/Picture"}},
        "instruction": {"type": "string", "description": "a session's later frames may leave it out: as its last one"},
        "unnorm_key": {"type": ["string", "null"], "description": "whose statistics scale the action"},
        "max_age_ms": {"type": "number", "exclusiveMinimum": 0, "description": "older frames are not computed"},
        "session_id": {"anyOf": [{"$ref": "#/components/schemas/SessionId"}, {"type": "null"}]},
        "reuse": {
            "enum": [*REUSE_MODES, None],
            "description": "how much of the session's last frame this one may reuse; null: as the daemon is set",
        },
        "epoch": {**_COUNT, "description": "which of the session's episodes; another than its own is refused"},
        "seq": {**_COUNT, "description": "rises within the epoch; the same again gets the same answer again"},
        "t_obs_ns": {"type": ["integer", "null"], "description": "your clock; handed back with the answer"},
    },
}
_FILE: Schema = {"type": "string", "format": "binary", "description": "a JPEG or PNG file"}
_FRAME_FORM: Schema = {
    "type": "object",
    "required": ["image", "json"],
    "properties": {"image": _FILE, "json": {"type": "object", "description": "the frame's other fields, as in Frame"}},
}
_OPEN_SESSION: Schema = {
    "type": "object",
    "properties": {
        "session_id": {"anyOf": [ref("SessionId"), {"type": "null"}]},
        "secret": {"type": ["string", "null"], "description": "of a session that is to be resumed"},
        "service": {"enum": ["lockstep", "realtime", None], "description": "realtime: the newest frame wins"},
        "reuse": {"enum": [*REUSE_MODES, None], "description": "of frames that do not say"},
    },
}
_ENCODED: Schema = {
    "type": "object",
    "required": ["encoded"],
    "additionalProperties": False,
    "properties": {"encoded": {"type": "string", "contentMediaType": "application/json"}},
}
_RESET: Schema = {
    "type": "object",
    "properties": {
        "session_id": {"anyOf": [ref("SessionId"), {"type": "null"}]},
        "epoch": {**_COUNT, "description": "the one to begin: makes a repeated reset harmless"},
    },
}
REQUEST_SCHEMAS: Schema = {
    "Array": _ARRAY,
    "Picture": _PICTURE,
    "SessionId": _SESSION_ID,
    "Frame": _FRAME,
    "Encoded": _ENCODED,
    "Reset": _RESET,
    "FrameForm": _FRAME_FORM,
    **DIALECT_SCHEMAS,
    "OpenSession": _OPEN_SESSION,
}
