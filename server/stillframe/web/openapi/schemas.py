"""Component schemas of requests and replies, by their names in /openapi.json.

Knows no route: routes.py refers to them.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from stillframe.domain import REUSE_MODES, KeyframeReason, ReuseMode, RtcWhy
from stillframe.sessions.session import ServiceMode, SessionInfo
from stillframe.web.openapi.builders import Schema, ref
from stillframe.web.openapi.legacy_routes import DIALECT_SCHEMAS
from stillframe_client.wire import MAX_COUNT, MAX_SESSION_ID, MAX_STATE_NUMBERS, SESSION_ID_RULE

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
_ROBOT_STATE: Schema = {
    "description": "the robot's state (proprioception): the numbers that /v1/models lists under observation.state; any "
    "value is left aside where it lists none",
    "anyOf": [
        {"type": "array", "items": {"type": "number"}, "maxItems": MAX_STATE_NUMBERS, "description": "in its order"},
        {"$ref": "#/components/schemas/Array"},
        {"type": "object", "additionalProperties": {"type": "number"}, "description": "by its names"},
        {"description": "where the policy reads none"},
    ],
}
_SESSION_ID: Schema = {
    "type": "string",
    "minLength": 1,
    "maxLength": MAX_SESSION_ID,
    "description": f"whose frame it is: {SESSION_ID_RULE}; without one nothing outlives the frame",
}
_COUNT: Schema = {"type": ["integer", "null"], "minimum": 0, "maximum": MAX_COUNT}
_RTC: Schema = {
    "type": "object",
    "description": "hold the chunk to the session's last one, which the robot plays meanwhile (real-time chunking); of "
    "policies whose /v1/models says action.rtc",
    "required": ["delay_steps", "executed_steps"],
    "additionalProperties": False,
    "properties": {
        "delay_steps": {
            "type": "integer",
            "minimum": 0,
            "description": "of the new chunk that will be past when it is taken up: held fast; below chunk_horizon",
        },
        "executed_steps": {
            "type": "integer",
            "minimum": 0,
            "maximum": MAX_COUNT,
            "description": "of the last chunk that lie between its frame and this one, as the robot counted them",
        },
        "horizon": {
            "type": ["integer", "null"],
            "minimum": 0,
            "description": "of the new chunk's steps that are held at all, the delay's among them; null: as many as "
            "the last chunk reaches",
        },
        "chunk_seq": {**_COUNT, "description": "the frame of the chunk that the robot plays; null: the last answered"},
    },
}
_FRAME: Schema = {
    "type": "object",
    "oneOf": [{"required": ["image"]}, {"required": ["images"]}],
    "properties": {
        "image": {"$ref": "#/components/schemas/Picture"},
        "images": {"type": "object", "additionalProperties": {"$ref": "#/components/schemas/Picture"}},
        "masks": {
            "type": ["object", "null"],
            "additionalProperties": {"anyOf": [{"$ref": "#/components/schemas/Array"}, {"type": "string"}]},
            "description": "of each picture, by its name: what matters for the task, [height, width] uint8 or a grey "
            "PNG in base64, 0 where nothing does; read where reuse.adaptive.relevance or reuse.paper's is masks",
        },
        "instruction": {"type": "string", "description": "a session's later frames may leave it out: as its last one"},
        "state": {"$ref": "#/components/schemas/RobotState"},
        "unnorm_key": {"type": ["string", "null"], "description": "whose statistics scale the action"},
        "max_age_ms": {"type": "number", "exclusiveMinimum": 0, "description": "older frames are not computed"},
        "slack_ms": {
            "type": ["number", "null"],
            "minimum": 0,
            "description": "a session's robot has actions left for so long: for some of it others' frames may go first",
        },
        "rtc": {"anyOf": [{"$ref": "#/components/schemas/RtcRequest"}, {"type": "null"}]},
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
    "properties": {
        "image": _FILE,
        "json": {"type": "object", "description": "the frame's other fields, as in Frame"},
        "state": {"$ref": "#/components/schemas/RobotState"},
    },
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
    "RobotState": _ROBOT_STATE,
    "RtcRequest": _RTC,
    "Frame": _FRAME,
    "Encoded": _ENCODED,
    "Reset": _RESET,
    "FrameForm": _FRAME_FORM,
    **DIALECT_SCHEMAS,
    "OpenSession": _OPEN_SESSION,
}


class FieldFault(BaseModel):
    """One field at fault."""

    pointer: str
    detail: str


class Problem(BaseModel):
    """A failure, as RFC 9457 writes it; `code` is stable."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    code: str
    request_id: str
    errors: list[FieldFault]
    retry_after_ms: int | None = None
    state: str | None = None


class Cache(BaseModel):
    """What a frame reused of its session's last ones; also in the header X-Stillframe-Cache of every answer."""

    mode: ReuseMode
    frame: Literal["keyframe", "delta"]
    reason: KeyframeReason | None  # why the frame was computed whole
    reuse_ratio: float
    reused_tokens: int
    total_tokens: int
    kv_bytes: int
    age_max: int
    # To the answer to this frame alone, decoded without guesses by the same plan. False: two tokens as good as equal
    # may have changed places, for a pass that verified a guess, or was over several frames, rounds otherwise.
    bit_equal: bool
    relaxed: bool = False  # only where guessed tokens could stand: decoding.draft is relaxed
    beside_ms: float = 0.0  # device time that refreshes and audits of its session took since the answer before, if any
    pruned_ratio: float = 0.0  # only in a mode that prunes: token-layers left out, none of which was reused


class History(BaseModel):
    """What is kept of a session's older frames, in chunks, or why nothing is; also in the header X-Stillframe-History.

    `held` is now; `kept` and `dropped` count since the episode began: chunks that stayed when the window had gone past
    them, and chunks that went, then or later.
    """

    enabled: bool
    why: str | None = None  # where it is not enabled
    held: int | None = None  # from here on: where it is
    kept: int | None = None
    dropped: int | None = None
    kv_bytes: int | None = None  # of the chunks held
    warning: str | None = None  # the checkpoint was not trained with older frames, and forced to look at them


class Rtc(BaseModel):
    """What a chunk was held to; also in the header X-Stillframe-Rtc.

    `why` it was computed freely: no-chunk (the episode's first), unknown-chunk (`chunk_seq` is not among the last few),
    other-statistics (of another unnorm_key), played-out (`executed_steps` go past it), nothing-asked.
    """

    frozen: int  # steps held fast, the first of the chunk
    guided: int  # steps behind these, held less and less
    chunk_seq: int | None = None  # the frame of the chunk that it was held to
    why: RtcWhy | None = None  # it was computed freely


class SessionPlace(BaseModel):
    """Which frame of which session it was; also in the header X-Stillframe-Session."""

    id: str
    epoch: int
    seq: int


class Steps(BaseModel):
    """For which control steps the actions are. A frame's seq is its step: number frames so if not each step has one."""

    first: int  # the frame's own, 0 without a session: actions[0] is for it, actions[1] for the next
    count: int


class Actions(BaseModel):
    """The readable answer to a frame; `session` only where the frame named one."""

    actions: list[list[float]]
    steps: Steps
    unnorm_key: str
    model: str
    timing_ms: dict[str, float]
    cache: Cache
    history: History
    rtc: Rtc | None = None  # only where the frame asked
    session: SessionPlace | None = None
    cameras: dict[str, str] | None = None  # camera -> the request's key of its picture, where that is another name
    warnings: list[str] | None = None  # of what is odd about the request and was taken as it is
    t_obs_ns: int | None = None
    late: bool | None = None  # the action came after the frame's max_age_ms
    replayed: bool | None = None  # the answer that this very frame got before


class ResetDone(BaseModel):
    """The episode that begins; null where no session was named, so that there is none to end."""

    session_id: str | None
    epoch: int | None


class SessionOpened(BaseModel):
    """A session that is open; who has the secret may resume it from another connection."""

    session_id: str
    secret: str
    epoch: int
    service: ServiceMode
    resumed: bool


class SessionList(BaseModel):
    """The caller's sessions; all sessions to an admin."""

    sessions: list[SessionInfo]


class RecordingStatus(BaseModel):
    """What becomes of answered frames that are recorded; see /metrics as well."""

    state: str  # recording, or failing: frames are being lost, and the disk is tried again
    kept: int
    lost: int
    sessionless: int  # answered and not recorded: only frames of sessions are
    used_bytes: int
    budget_bytes: int
    trouble: str | None  # why frames are being lost


class Status(BaseModel):
    """How the daemon stands."""

    state: str
    version: str
    model: str | None
    sessions: dict[str, int]  # state -> how many
    sessions_limit: int | None
    connections: int
    kv_in_use_bytes: int
    kv_budget_bytes: int
    history_bytes: int  # of older frames, beside the pool that the two above are about
    recording: RecordingStatus | None = None  # None: nothing is recorded


def component_schemas() -> Schema:
    """Return the schemas that the descriptions refer to by name."""
    models: list[type[BaseModel]] = [Problem, Actions, ResetDone, SessionOpened, SessionList, Status]
    _, generated = models_json_schema(
        [(model, "serialization") for model in models], ref_template="#/components/schemas/{model}"
    )
    return {**generated["$defs"], **REQUEST_SCHEMAS}
