"""One deployment's YAML, checked: unknown keys are refused with the closest name.

Knows names and bounds; opens nothing but the YAML.
"""

from __future__ import annotations

import ipaddress
import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, get_args, get_type_hints

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from stillframe.domain import TokenScope, WeightScheme
from stillframe.engine.settings import BatchingSettings, DecodingSettings, GraphSettings, ShadowSettings
from stillframe.errors import ConfigError, closest
from stillframe.files.kinds import shown
from stillframe.files.yaml import Word, read_yaml
from stillframe.history.settings import HistorySettings
from stillframe.recording.pictures import PictureFormat
from stillframe.reuse.settings import ReuseSettings
from stillframe.sessions.settings import SessionSettings
from stillframe.settings_fields import RangeChecked, setting
from stillframe.tracing.settings import TracingSettings
from stillframe.web.http.limits import Limits
from stillframe.web.live.settings import LiveSettings
from stillframe_client.wire import SESSION_ID_RULE, is_session_id

Device = Literal["auto", "cpu", "cuda"]
VisionTowers = Literal["in-turn", "side-by-side"]
Profile = Literal["native", "openvla-oft", "cogact", "openpi", "roboarena"]

PATHS = ("checkpoint", "record", "tls_cert", "tls_key")
GPU = re.compile(r"cuda:(0|[1-9][0-9]{0,2})")
MOST_CHECKPOINT_KEYS = MOST_METADATA_KEYS = 32
MAX_ERRORS = 20  # reported at once
CALLER_NAME = re.compile(r"(?!anonymous$)[A-Za-z0-9._-]{1,64}")
SHA256 = re.compile(r"[0-9a-f]{64}")
HOST = re.compile(r"[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]")
ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^/\s]+")


def _device(name: str) -> str:
    """Check a device: one of `Device`, or a GPU by its number."""
    if name not in get_args(Device) and not GPU.fullmatch(name):
        expected = (
            "Input should be 'auto', 'cpu' or 'cuda', or 'cuda:1' for the second GPU that CUDA_VISIBLE_DEVICES shows"
        )
        raise PydanticCustomError("device", expected)
    return name


def _checkpoint_config(keys: dict[str, Any] | None) -> dict[str, Any] | None:
    """Check what all families' keys have in common: they are few, and plain values."""
    if len(keys or {}) > MOST_CHECKPOINT_KEYS:
        raise ValueError(f"there are {len(keys or {})} keys; expected at most {MOST_CHECKPOINT_KEYS}")
    for key, value in (keys or {}).items():
        words = isinstance(value, list) and all(isinstance(word, str) for word in value)
        named = isinstance(value, dict) and all(isinstance(word, str) for word in value.values())
        number = isinstance(value, int | float) and abs(value) < math.inf  # not a number is not less either
        if not (words or named or number or isinstance(value, str)):
            expected = "true, false, a finite number, a word, a list of words or words by name"
            raise ValueError(f"{shown(key)} is {shown(repr(value))}; expected {expected}")
    return keys


def _instruction(text: str | None) -> str | None:
    """Check an instruction as a frame's is: it says something, and fits."""
    if text is not None and (not text.strip() or len(text.encode()) > Limits.max_instruction_bytes):
        most = Limits.max_instruction_bytes
        raise ValueError(f"default_instruction is {shown(repr(text))}; expected what to do, in at most {most} bytes")
    return text


def _metadata(members: dict[str, Any] | None) -> dict[str, Any] | None:
    """Check members of a message: few, and plain values or lists of them."""
    if len(members or {}) > MOST_METADATA_KEYS:
        raise ValueError(f"openpi_metadata has {len(members or {})} keys; expected at most {MOST_METADATA_KEYS}")
    for key, value in (members or {}).items():
        parts = value if isinstance(value, list) else [value]
        if not all(isinstance(part, str) or (isinstance(part, int | float) and abs(part) < math.inf) for part in parts):
            expected = "true, false, finite numbers and words, or a list of them"
            raise ValueError(f"openpi_metadata: {shown(key)} is {shown(repr(value))}; expected {expected}")
    return members


@dataclass(frozen=True)
class TokenSettings:
    """A token that the daemon accepts. `stillframe token NAME` makes one and prints these lines."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "strict": True}

    name: str = field(metadata={"description": "the caller that holds the token; its sessions belong to that name"})
    sha256: str = field(metadata={"description": "hash of the token, 64 hexadecimal digits; never the token"})
    scopes: list[TokenScope] = setting([TokenScope.ACT], "act: send frames; admin: see and end sessions of all callers")

    def __post_init__(self) -> None:
        if not CALLER_NAME.fullmatch(self.name):
            raise ValueError(
                f"name is {self.name!r}; expected 1 to 64 letters, digits, dots, dashes, and not 'anonymous'"
            )
        if not SHA256.fullmatch(self.sha256):  # which may be the token itself, so it is not repeated
            raise ValueError("sha256 is not 64 small hexadecimal digits; `stillframe token NAME` prints them")


@dataclass(frozen=True)
class ListenerSettings(RangeChecked):
    """An extra port, for clients whose path or fields cannot be configured."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "strict": True}

    port: int = field(metadata={"description": "TCP port; 0: any free one, named in the log", "low": 0, "high": 65535})
    host: str | None = setting(None, "address to listen on; null: that of the daemon")
    profile: Profile = setting("native", "dialect of the clients on this port, where the path does not tell")
    session: str | None = setting(None, "session of frames that come in here without an id; null: none")
    unnorm_key: str | None = setting(None, "statistics for frames that name none; null: those of the daemon")
    cameras: dict[str, str] | None = setting(None, "the policy's camera: its client's key; null: those of the daemon")
    center_crop: float | None = setting(
        None, "share of a picture's area, at its middle, that is looked at; null: that of the daemon; 1: all", 0.01, 1
    )
    default_instruction: str | None = setting(None, "what a frame without words says to do; null: that of the daemon")
    openpi_metadata: dict[str, Any] | None = setting(
        None, "members of openpi's first message beside the daemon's; null: those of the daemon"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.session is not None and not is_session_id(self.session):
            raise ValueError(f"session is {self.session!r}; expected {SESSION_ID_RULE}")
        _check_cameras(self.cameras or {})
        _instruction(self.default_instruction)
        _metadata(self.openpi_metadata)


def _check_cameras(cameras: Mapping[str, str]) -> None:
    """Raise ValueError if two cameras share a key, or a name is empty."""
    if not all([*cameras, *cameras.values()]):
        raise ValueError("cameras has an empty name; expected the policy's camera: its client's key")
    for key, times in Counter(cameras.values()).items():
        if times > 1:
            raise ValueError(f"cameras has the key {key!r} for {times} cameras; each needs a picture of its own")


class DaemonConfig(BaseModel):
    """The configuration of `stillframe serve`: every key, with its description."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    checkpoint: Path = Field(
        description="folder of a checkpoint, relative to where the daemon starts; or org/name[@revision] of the hub"
    )
    checkpoint_config: Annotated[dict[str, Any] | None, AfterValidator(_checkpoint_config)] = Field(
        None,
        description="keys in place of those in the checkpoint's config.json, as its family has them: what it leaves "
        "out, or what this deployment wants otherwise; null: none",
    )
    device: Annotated[str, AfterValidator(_device)] = Field(
        "auto", description="auto: a GPU where there is one; cuda:1: the second of several"
    )
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="auto: bfloat16; on a CPU only where that is measured to be clearly faster than float32"
    )
    weights: WeightScheme = Field(
        "as-is",
        description="how the decoder's layers are held: as-is, or quantised, in less memory: int8 (its rows too: the "
        "fastest on a CPU), int8-weight-only, int4-weight-only or fp8; see docs/quantised.md",
    )
    threads: int | None = Field(None, ge=1, description="CPU threads for the model; null: torch decides")
    vision_towers: VisionTowers = Field(
        "in-turn",
        description="of a model that looks at a picture by two: in-turn, or side-by-side: on so many threads each, or "
        "each on a GPU's stream of its own; see docs/vision.md",
    )
    host: str = Field("127.0.0.1", description="address to listen on; loopback unless you say otherwise")
    port: int = Field(8000, ge=0, le=65535, description="TCP port; 0: any free one, named in the log")
    listeners: list[ListenerSettings] = Field(default_factory=list, description="ports to listen on beside that one")
    unnorm_key: str | None = Field(
        None, description="statistics that scale the action of a frame that names none; null: the only ones there are"
    )
    cameras: dict[str, str] | None = Field(
        None, description="the policy's camera: the key under which its picture comes in, where names do not decide"
    )
    center_crop: float | None = Field(
        None,
        ge=0.01,
        le=1,
        description="share of a picture's area, at its middle, that is looked at: 0.9 for checkpoints that were "
        "fine-tuned with image augmentation; null: all",
    )
    default_instruction: Annotated[str | None, AfterValidator(_instruction)] = Field(
        None,
        description="what a frame without an instruction says to do, where its session has none yet either: clients "
        "such as openpi's for ALOHA leave that to the server; null: such a frame is refused",
    )
    openpi_metadata: Annotated[dict[str, Any] | None, AfterValidator(_metadata)] = Field(
        None,
        description="members of openpi's first message beside the daemon's own, or in their place, such as the "
        "reset_pose that ALOHA's client moves to; null: none",
    )
    tls_cert: Path | None = Field(None, description="certificate chain, PEM; null: plain HTTP on every port")
    tls_key: Path | None = Field(None, description="private key of the certificate, PEM, without a password")
    tokens: list[TokenSettings] = Field(
        default_factory=list, description="callers allowed; none: any that can reach the daemon"
    )
    allow_anonymous: bool = Field(
        default=False, description="whether other machines may reach the daemon although there are no tokens"
    )
    allowed_hosts: list[str] = Field(
        default_factory=list,
        description="names, without a port, that requests may have in Host beside localhost and IP addresses; "
        "none: no others on a loopback host, any elsewhere",
    )
    allowed_origins: list[str] = Field(
        default_factory=list,
        description="web pages that may ask beside the daemon's own address, such as https://panel.lab:8443",
    )
    frames_per_s: float | None = Field(
        120, gt=0, le=1_000_000, description="frames of one client, beyond which it is answered 429; null: any number"
    )
    requests_per_s: float | None = Field(
        200,
        gt=0,
        le=1_000_000,
        description="requests and messages of any kind of one caller (a token, or an address where there are none); "
        "more are answered 429; null, or where all that ask are this machine's without a token: any number",
    )
    queue_frames: int = Field(32, ge=1, le=4096, description="frames that may wait; more are answered 503")
    max_body_mib: float = Field(16, gt=0, le=256, description="largest request body")
    max_image_pixels: int = Field(4_000_000, ge=64, description="most pixels of one picture, before decoding")
    default_max_age_ms: float = Field(
        10_000, gt=0, le=60_000, description="a frame that waits longer is answered 504; a request may say max_age_ms"
    )
    watchdog_s: float = Field(
        30, gt=0, le=3600, description="a frame that is computed for longer makes the daemon not ready"
    )
    drain_s: float = Field(10, ge=0, le=600, description="what frames in flight get when the daemon is told to stop")
    sessions: SessionSettings = Field(
        default_factory=SessionSettings, description="how many robots, and for how long; see sessions/settings.py"
    )
    decoding: DecodingSettings = Field(
        default_factory=DecodingSettings, description="guessed action tokens; see reuse/settings.py"
    )
    batching: BatchingSettings = Field(
        default_factory=BatchingSettings, description="robots side by side; see reuse/settings.py"
    )
    graphs: GraphSettings = Field(
        default_factory=GraphSettings, description="passes that a GPU replays; see reuse/settings.py"
    )
    reuse: ReuseSettings = Field(
        default_factory=ReuseSettings, description="what a session keeps between frames; see reuse/settings.py"
    )
    history: HistorySettings = Field(
        default_factory=HistorySettings, description="what a session keeps of older frames; see history/settings.py"
    )
    shadow: ShadowSettings = Field(
        default_factory=ShadowSettings,
        description="a second policy that answers the same frames in idle time; see docs/recordings.md",
    )
    live: LiveSettings = Field(
        default_factory=LiveSettings, description="the page that a browser gets; see web/live/settings.py"
    )
    tracing: TracingSettings = Field(
        default_factory=TracingSettings, description="where traces of frames go; see tracing/settings.py"
    )
    record: Path | None = Field(None, description="folder in which sessions' answered frames are kept; null: nowhere")
    record_images: PictureFormat = Field(
        "png",
        description="what `record` keeps of pictures: png, to the bit; jpeg, to look at and nearly so; hash, to tell "
        "equal ones; none; without pictures nothing can be calibrated or replayed",
    )
    record_max_mib: float = Field(
        1024, ge=1, le=10_000_000, description="most that `record` may take up; beyond, the oldest episodes go"
    )

    @property
    def one_caller(self) -> bool:
        """Whether all requests count as one caller: loopback only, without tokens."""
        hosts = [self.host, *(listener.host or self.host for listener in self.listeners)]
        return not self.tokens and all(is_loopback(host) for host in hosts)

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Self:
        _check_cameras(self.cameras or {})
        faults = [*_missing_tokens(self), *_contradictions(self), *_malformed_names(self)]
        if faults:
            raise ValueError("; ".join(faults))
        return self


def is_loopback(host: str) -> bool:
    """Whether `host` can be reached from this machine only."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def load_config(file: Path | None, overrides: Mapping[str, Any]) -> DaemonConfig:
    """Read a YAML, if any, and apply the command line's `overrides` (None: not given). Raises ConfigError."""
    values = {} if file is None else _with_booleans(read_yaml(file), DaemonConfig)
    values |= {key: value for key, value in overrides.items() if value is not None}
    source = "the command line" if file is None else shown(file)
    try:
        # As JSON, in which strict types still let an object become a section and a string a path.
        return DaemonConfig.model_validate_json(
            _as_json({key: _expand_home(key, value) for key, value in values.items()})
        )
    except UnicodeEncodeError as error:
        raise ConfigError(f"{source}: a value is no text in UTF-8; expected names and paths that are") from error
    except ValidationError as error:
        faults = error.errors()
        more = [f"and {len(faults) - MAX_ERRORS} more"] if len(faults) > MAX_ERRORS else []
        raise ConfigError(f"{source}: " + "; ".join([*map(_explain, faults[:MAX_ERRORS]), *more])) from error


def _with_booleans(values: dict[str, Any], model: Any) -> dict[str, Any]:
    """Read a bare yes, no, on or off as a boolean where the key is one, and as text elsewhere: `mode: off`."""
    known = _keys(model)
    return {key: _as_boolean(value, known[key].type) if key in known else value for key, value in values.items()}


def _as_boolean(value: Any, kind: Any) -> Any:
    if isinstance(value, Word) and (kind is bool or bool in map(type, get_args(kind))):
        return value.truth
    if isinstance(value, dict) and is_dataclass(kind):
        return _with_booleans(value, kind)
    if isinstance(value, list) and get_args(kind):
        return [_as_boolean(part, get_args(kind)[0]) for part in value]
    return value


def _expand_home(key: str, value: Any) -> Any:
    """Expand ~ in a path, and in that of a section."""
    if key == "shadow" and isinstance(value, dict):
        return {name: _expand_home(name, inner) for name, inner in value.items()}
    if key in PATHS and "\0" in str(value):
        raise ConfigError(f"{key!r} is {shown(value)}; expected a path, which holds no zero byte")
    if key in PATHS and isinstance(value, str | Path) and str(value).startswith("~"):
        try:
            return Path(value).expanduser()
        except RuntimeError as error:
            raise ConfigError(f"{key!r} is {shown(value)}: there is no such home; write the path in full") from error
    return value


def _as_json(values: dict[str, Any]) -> bytes:
    """Raises UnicodeEncodeError for text that is not valid Unicode."""
    return json.dumps(values, default=str, ensure_ascii=False).encode()


def _missing_tokens(config: DaemonConfig) -> Iterator[str]:
    """Refuse a daemon that other machines reach without tokens, unless that is allowed explicitly."""
    hosts = [config.host, *(listener.host for listener in config.listeners if listener.host is not None)]
    reached = [host for host in hosts if not is_loopback(host)]
    if reached and not config.tokens and not config.allow_anonymous:
        yield (
            f"other machines reach {reached[0]!r}, and there are no 'tokens': run `stillframe token NAME` and put in "
            "what it prints, or allow any caller with 'allow_anonymous: true' (--allow-anonymous)"
        )


def _contradictions(config: DaemonConfig) -> Iterator[str]:
    """Ports or tokens given twice, and a certificate without its key."""
    if (config.tls_cert is None) != (config.tls_key is None):
        yield "'tls_cert' and 'tls_key' go together: give both, or neither"
    ports = Counter([config.port, *(listener.port for listener in config.listeners)])
    yield from (f"port {port} stands twice; each listener needs its own" for port, n in ports.items() if port and n > 1)
    hashes = {token.sha256 for token in config.tokens}
    if len(hashes) < len(config.tokens):
        yield "two of 'tokens' have the same sha256; each needs its own"


def _malformed_names(config: DaemonConfig) -> Iterator[str]:
    """Hosts and origins in a form that would never match a request."""
    for host in config.allowed_hosts:
        if not HOST.fullmatch(host):
            yield f"'allowed_hosts' has {host!r}; expected a name such as robot.lab, without scheme or port"
    for origin in config.allowed_origins:
        if not ORIGIN.fullmatch(origin):
            yield f"'allowed_origins' has {origin!r}; expected scheme and host, such as https://panel.lab:8443"


def _explain(fault: Any) -> str:
    """One line for one wrong key. Values under `tokens` are not repeated: they may be secrets."""
    key = ".".join(str(part) for part in fault["loc"])
    named = repr(shown(key))
    if fault["type"] in {"extra_forbidden", "unexpected_keyword_argument"}:
        known = list(_keys_beside(key))
        return f"unknown key {named}.{closest(key.split('.')[-1], known) or ' Known: ' + ', '.join(known)}"
    if fault["type"] in {"missing", "missing_argument"}:
        return f"{key!r} is missing: {_keys_beside(key)[key.split('.')[-1]].description}"
    if fault["type"] == "value_error":  # of a section, or of the whole: its text names the key
        return f"{key!r}: {fault['ctx']['error']}" if key else str(fault["ctx"]["error"])
    found = "" if key.startswith("tokens") else f" is {_found(fault['input'])}"
    return f"{key!r}{found}: {fault['msg'][0].lower()}{fault['msg'][1:]}"


def _found(value: Any) -> str:
    return "null, which is how YAML reads ~ and nothing at all" if value is None else shown(repr(value))


@dataclass(frozen=True)
class _Key:
    """A key's type and description."""

    type: Any
    description: str


def _keys_beside(key: str) -> dict[str, _Key]:
    """The keys of the section that `key` stands in, by name."""
    *section, _ = key.split(".")
    model: Any = DaemonConfig
    for name in section:
        model = get_args(model)[0] if name.isdigit() else _keys(model)[name].type  # a digit: one of a list
    return _keys(model)


def _keys(model: Any) -> dict[str, _Key]:
    """Every key of a section."""
    if is_dataclass(model):
        types = get_type_hints(model)
        return {part.name: _Key(types[part.name], part.metadata["description"]) for part in fields(model)}
    return {name: _Key(part.annotation, part.description or "") for name, part in model.model_fields.items()}
