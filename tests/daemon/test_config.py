from __future__ import annotations

import functools
from dataclasses import MISSING, Field, fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from stillframe.daemon.config import (
    DaemonConfig,
    ListenerSettings,
    TokenSettings,
    is_loopback,
    load_config,
)
from stillframe.domain import TokenScope
from stillframe.errors import ConfigError
from stillframe.reuse.settings import AdaptiveSettings, ReuseSettings

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
HASH = "6d59acef49655db6f966935beaa2c077fc771bad44c49535fb81966b7c800e32"
OTHER_VALUES: dict[str, Any] = {  # one per key, none of them its default
    "checkpoint": Path("elsewhere"),
    "checkpoint_config": {"num_ddim_steps": 5, "use_proprio": False, "cameras": ["image", "wrist"], "a": {"b": "c"}},
    "device": "cpu",
    "dtype": "bfloat16",
    "weights": "int8",
    "threads": 3,
    "vision_towers": "side-by-side",
    "host": "0.0.0.0",  # noqa: S104 -- read, never listened on
    "port": 0,
    "listeners": [ListenerSettings(8777, "::1", "openvla-oft", "the arm"), ListenerSettings(0)],
    "unnorm_key": "bridge_orig",
    "cameras": {"front": "observation/exterior_image_1_left", "wrist": "cam_left_wrist"},
    "center_crop": 0.9,
    "default_instruction": "transfer the cube",
    "openpi_metadata": {"reset_pose": [0, -1.5, 1.5, 0, 0, 0], "robot": "left"},
    "tls_cert": Path("cert.pem"),
    "tls_key": Path("key.pem"),
    "tokens": [TokenSettings("front", HASH, [TokenScope.ADMIN]), TokenSettings("back", HASH[::-1])],
    "allow_anonymous": True,
    "allowed_hosts": ["robot.lab", "[fd00::7]"],
    "allowed_origins": ["https://panel.lab:8443"],
    "frames_per_s": 7.5,
    "requests_per_s": 50.0,
    "queue_frames": 7,
    "max_body_mib": 0.5,
    "max_image_pixels": 64,
    "default_max_age_ms": 250.5,
    "watchdog_s": 2.5,
    "drain_s": 0.0,
    "sessions.most": 3,
    "sessions.ttl_s": 60.5,
    "sessions.lease_s": 0.5,
    "sessions.resume_s": 0.0,
    "sessions.waiting": 2,
    "sessions.replies": 3,
    "tracing.endpoint": "https://tempo.lab:4318/v1/traces",
    "tracing.share": 0.5,
    "live.enabled": False,
    "live.most": 3,
    "live.rate_hz": 12.5,
    "decoding.draft": "relaxed",
    "decoding.radius": [1, 2, 3, 4, 5, 6],
    "decoding.ensemble": 2,
    "decoding.execute": 4,
    "decoding.rtc_strength": 10.0,
    "decoding.rtc_jacobian": "identity",
    "batching.most": 3,
    "batching.hold_ms": 7.5,
    "history.enabled": True,
    "history.force": True,
    "history.gate": "novelty",
    "history.chunk_tokens": 64,
    "history.window_frames": 9,
    "history.budget_mib": 1.5,
    "history.threshold": 0.4,
    "history.decay": 0.9,
    "graphs.enabled": False,
    "graphs.batches": [1, 3],
    "graphs.rows": [32, 500],
    "shadow.checkpoint": Path("candidate"),
    "shadow.share": 0.25,
    "record": Path("episodes"),
    "record_images": "jpeg",
    "record_max_mib": 2.5,
    "reuse.mode": "exact",
    "reuse.drift_budget": 0.5,
    "reuse.slack": "auto",
    "reuse.gap_s": 0.25,
    "reuse.kv_budget_mib": 3.5,
    "reuse.slot_text_tokens": 17,
    "reuse.adaptive.criterion": "pixels",
    "reuse.adaptive.distance": 0.75,
    "reuse.adaptive.tau": 0.5,
    "reuse.adaptive.tau_centred": -0.5,
    "reuse.adaptive.max_difference": 99.0,
    "reuse.adaptive.top_k": 7,
    "reuse.adaptive.task_top_k": 9,
    "reuse.adaptive.relevance": "expert",
    "reuse.adaptive.relevance_layers": [1, 3],
    "reuse.adaptive.schedule": [0.25, 0.25, 1.0],
    "reuse.adaptive.selector": Path("selector.safetensors"),
    "reuse.adaptive.selector_drift": 0.125,
    "reuse.adaptive.age_limit": 2,
    "reuse.adaptive.audit_share": 0.25,
    "reuse.adaptive.keyframe_every": 5,
    "reuse.adaptive.scene_cut": 0.9,
    "reuse.adaptive.vision": "changed",
    "reuse.adaptive.vision_difference": 12.5,
    "reuse.adaptive.vision_motion": 0.25,
    "reuse.paper.tau": 0.85,
    "reuse.paper.top_k": 50,
    "reuse.paper.task_top_k": 60,
    "reuse.paper.tau_task": 0.375,
    "reuse.paper.k": 2.5,
    "reuse.paper.layers": [2],
    "reuse.paper.relevance": "expert",
    "reuse.paper.relevance_layers": [15],
    "reuse.fastv.layer": 3,
    "reuse.fastv.ratio": 0.75,
    "reuse.sparsevlm.layers": [0, 1],
    "reuse.sparsevlm.scale": 4.0,
    "reuse.sparsevlm.bias": -3.0,
    "reuse.sparsevlm.recycle": 0.0,
    "reuse.tome.layers": [1, 2],
    "reuse.tome.ratio": 0.25,
}
BESIDE: dict[str, dict[str, Any]] = {  # what a key cannot stand without
    "host": {"allow_anonymous": True},
    "tls_cert": {"tls_key": "key.pem"},
    "tls_key": {"tls_cert": "cert.pem"},
}
OUT_OF_RANGE: dict[str, tuple[str, str]] = {  # key -> a value beyond its range, and what the complaint says of it
    "reuse.adaptive.audit_share": ("0.6", "audit_share is 0.6; expected 0 to 0.5"),
    "shadow.share": ("1.5", "share is 1.5; expected 0 to 1"),
    "sessions.most": ("0", "most is 0; expected 1 to 1e+06"),
    "sessions.ttl_s": ("0.5", "ttl_s is 0.5; expected 1 to 3600"),
    "sessions.lease_s": ("-1", "lease_s is -1.0; expected 0 to 3600"),
    "sessions.resume_s": (".inf", "resume_s is inf; expected 0 to 3600"),
    "sessions.waiting": ("65", "waiting is 65; expected 0 to 64"),
    "sessions.replies": ("-1", "replies is -1; expected 0 to 1024"),
    "tracing.endpoint": (
        "tempo:4318",
        "endpoint is 'tempo:4318'; expected scheme, host and path, such as http://tempo:4318/v1/traces",
    ),
    "tracing.share": ("1.5", "share is 1.5; expected 0 to 1"),
    "live.most": ("0", "most is 0; expected 1 to 256"),
    "live.rate_hz": ("31", "rate_hz is 31.0; expected 1 to 30"),
    "decoding.radius": ("[256]", "radius is [256]; expected 0 to 255"),
    "decoding.ensemble": ("65", "ensemble is 65; expected 0 to 64"),
    "decoding.execute": ("-1", "execute is -1; expected 0 to 1024"),
    "decoding.rtc_strength": ("101", "rtc_strength is 101.0; expected 0 to 100"),
    "batching.most": ("0", "most is 0; expected 1 to 64"),
    "batching.hold_ms": ("-1", "hold_ms is -1.0; expected 0 to 10000"),
    "history.gate": ("psychic", "gate is 'psychic'; expected one of gate, linear"),
    "history.chunk_tokens": ("0", "chunk_tokens is 0; expected 1 to 65536"),
    "history.window_frames": ("-1", "window_frames is -1; expected 0 to 100000"),
    "history.budget_mib": ("-1.0", "budget_mib is -1.0; expected 0 to 1e+06"),
    "history.threshold": ("1.5", "threshold is 1.5; expected 0 to 1"),
    "history.decay": ("0.1", "decay is 0.1; expected 0.5 to 1"),
    "graphs.batches": ("[0]", "batches is [0]; expected 1 to 64"),
    "graphs.rows": ("[64, 0]", "rows is [64, 0]; expected 1 to 100000"),
    "reuse.drift_budget": ("2.5", "drift_budget is 2.5; expected 0 to 2"),
    "reuse.gap_s": ("-1", "gap_s is -1.0; expected 0 to 3600"),
    "reuse.kv_budget_mib": ("-0.5", "kv_budget_mib is -0.5; expected 0 to 1e+06"),
    "reuse.slot_text_tokens": ("0", "slot_text_tokens is 0; expected 1 to 4096"),
    "reuse.adaptive.distance": (".nan", "distance is nan; expected 0 to 2"),
    "reuse.adaptive.tau": ("1.01", "tau is 1.01; expected -1 to 1"),
    "reuse.adaptive.tau_centred": ("-2", "tau_centred is -2.0; expected -1 to 1"),
    "reuse.adaptive.max_difference": ("256", "max_difference is 256.0; expected 0 to 255"),
    "reuse.adaptive.top_k": ("-1", "top_k is -1; expected 0 to 4096"),
    "reuse.adaptive.task_top_k": ("4097", "task_top_k is 4097; expected 0 to 4096"),
    "reuse.adaptive.relevance_layers": ("[0, 256]", "relevance_layers is [0, 256]; expected 0 to 255"),
    "reuse.adaptive.schedule": ("[0.5, 1.5]", "schedule is [0.5, 1.5]; expected 0 to 1"),
    "reuse.adaptive.age_limit": ("0", "age_limit is 0; expected 1 to 10000"),
    "reuse.adaptive.keyframe_every": ("0", "keyframe_every is 0; expected 1 to 10000"),
    "reuse.adaptive.scene_cut": ("1.1", "scene_cut is 1.1; expected 0 to 1"),
    "reuse.adaptive.vision_difference": ("256", "vision_difference is 256.0; expected 0 to 255"),
    "reuse.adaptive.vision_motion": ("-1", "vision_motion is -1.0; expected 0 to 2"),
    "reuse.paper.tau": ("-1.5", "tau is -1.5; expected -1 to 1"),
    "reuse.paper.top_k": ("-3", "top_k is -3; expected 0 to 4096"),
    "reuse.paper.task_top_k": ("-3", "task_top_k is -3; expected 0 to 4096"),
    "reuse.paper.tau_task": ("2", "tau_task is 2.0; expected 0 to 1"),
    "reuse.paper.k": ("-1", "k is -1.0; expected 0 to 1000"),
    "reuse.paper.layers": ("[-1]", "layers is [-1]; expected 0 to 255"),
    "reuse.paper.relevance_layers": ("[300]", "relevance_layers is [300]; expected 0 to 255"),
    "reuse.fastv.layer": ("0", "layer is 0; expected 1 to 255"),
    "reuse.fastv.ratio": ("1.5", "ratio is 1.5; expected 0 to 1"),
    "reuse.sparsevlm.layers": ("[-1]", "layers is [-1]; expected 0 to 255"),
    "reuse.sparsevlm.scale": ("-1", "scale is -1.0; expected 0 to 4096"),
    "reuse.sparsevlm.bias": ("-5000", "bias is -5000.0; expected -4096 to 4096"),
    "reuse.sparsevlm.recycle": ("2", "recycle is 2.0; expected 0 to 1"),
    "reuse.adaptive.selector_drift": ("65", "selector_drift is 65.0; expected 0 to 64"),
    "reuse.tome.layers": ("[-1]", "layers is [-1]; expected 0 to 255"),
    "reuse.tome.ratio": ("0.6", "ratio is 0.6; expected 0 to 0.5"),
}


def described(model: Any = DaemonConfig, section: str = "") -> dict[str, tuple[str, Any]]:
    """Every key that holds a value, nested ones by their full name -> its description and default."""
    if is_dataclass(model):
        parts = {part.name: (part.metadata["description"], default_of(part)) for part in fields(model)}
    else:
        parts = {name: (key.description or "", key.get_default(call_default_factory=True)) for name, key in keys(model)}
    found: dict[str, tuple[str, Any]] = {}
    for name, (description, default) in parts.items():
        nested = is_dataclass(default) and not isinstance(default, type)
        found |= described(type(default), f"{section}{name}.") if nested else {section + name: (description, default)}
    return found


def keys(model: type[DaemonConfig]) -> Any:
    """Name and field of each key at the top."""
    return model.model_fields.items()


def default_of(part: Field[Any]) -> Any:
    """What a knob is when nobody turns it."""
    return part.default if part.default_factory is MISSING else part.default_factory()


def nested(key: str, value: Any) -> dict[str, Any]:
    """The YAML that sets one key, by its full name."""
    *sections, name = key.split(".")
    values = {name: value}
    for section in reversed(sections):
        values = {section: values}
    return values


def plain(value: Any) -> Any:
    """A value as YAML writes it."""
    if is_dataclass(value) and not isinstance(value, type):
        return {part.name: plain(getattr(value, part.name)) for part in fields(value)}
    if isinstance(value, list):
        return [plain(part) for part in value]
    return str(value) if isinstance(value, (Path, TokenScope)) else value


def value_at(config: Any, key: str) -> Any:
    """What a configuration says at a key's full name."""
    return functools.reduce(getattr, key.split("."), config)


def names(values: dict[str, Any], section: str = "") -> set[str]:
    """Every key of a YAML that holds a value, by its full name."""
    found: set[str] = set()
    for name, value in values.items():
        found |= names(value, f"{section}{name}.") if isinstance(value, dict) else {section + name}
    return found


def is_number(default: Any) -> bool:
    """Whether a knob is a number, perhaps none, or a list of them: it has a range."""
    return default is None or isinstance(default, list) or type(default) in {int, float}


KEYS = described()
PLACES = {"shadow.checkpoint", "reuse.adaptive.selector"}  # paths of sections: none of them a number
KNOBS = [key for key, (_, default) in KEYS.items() if "." in key and is_number(default) and key not in PLACES]


def written(folder: Path, text: str | bytes) -> Path:
    """A YAML with this text."""
    file = folder / "daemon.yaml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return file


def complaint(file: Path | None, **overrides: object) -> str:
    """What a ConfigError says."""
    with pytest.raises(ConfigError) as caught:
        load_config(file, overrides)
    return str(caught.value)


@pytest.mark.parametrize("file", sorted(CONFIGS.glob("*.yaml")), ids=lambda file: file.stem)
def test_every_configuration_we_ship_loads(file: Path) -> None:
    """What lies in configs/ is accepted as it stands, and says whose checkpoint it serves."""
    config = load_config(file, {})

    assert config.checkpoint.parts[0] == "checkpoints"


def test_there_are_configurations() -> None:
    """The test above is about something."""
    shipped = {file.stem for file in CONFIGS.glob("*.yaml")}

    assert {"jaco-tiny", "openvla-7b", "openvla-oft", "cogact-base", "pi0", "pi05"} <= shipped


def test_the_configuration_of_jaco_tiny_shows_every_key() -> None:
    """A reader of that file sees all there is to set."""
    shown = yaml.safe_load((CONFIGS / "jaco-tiny.yaml").read_text())

    assert names(shown) == set(KEYS)


@pytest.mark.parametrize("name", ["openvla-7b", "openvla-oft", "cogact-base", "pi0", "pi05"])
def test_a_published_checkpoint_reuses_nothing_until_it_is_calibrated(name: str) -> None:
    """Thresholds of one checkpoint say nothing of another's drift."""
    reuse = load_config(CONFIGS / f"{name}.yaml", {}).reuse

    assert (reuse.mode, reuse.adaptive) == ("off", AdaptiveSettings())


@pytest.mark.parametrize("file", sorted(CONFIGS.glob("*.yaml")), ids=lambda file: file.stem)
def test_adaptive_means_calibrated(file: Path) -> None:
    """A configuration that reuses by default says on which recordings its knobs were found."""
    calibrated = "# Calibrated over" in file.read_text(encoding="utf-8")

    assert calibrated == (load_config(file, {}).reuse.mode == "adaptive")


def test_a_checkpoint_has_few_keys_of_a_deployments(tmp_path: Path) -> None:
    """What is said in place of config.json's keys is bounded."""
    file = written(
        tmp_path, yaml.safe_dump({"checkpoint": "c", "checkpoint_config": {f"k{at}": at for at in range(33)}})
    )

    assert complaint(file) == f"{file}: 'checkpoint_config': there are 33 keys; expected at most 32"


def test_a_first_message_has_few_members_of_a_deployments(tmp_path: Path) -> None:
    """It is sent to every client."""
    file = written(tmp_path, yaml.safe_dump({"checkpoint": "c", "openpi_metadata": {f"k{at}": at for at in range(33)}}))

    assert "openpi_metadata has 33 keys; expected at most 32" in complaint(file)


@pytest.mark.parametrize("key", KEYS)
def test_every_key_is_described(key: str) -> None:
    """A key that nobody explains is a key that nobody turns."""
    assert len(KEYS[key][0].split()) >= 3


@pytest.mark.parametrize("item", [TokenSettings, ListenerSettings])
def test_every_key_of_a_lists_item_is_described(item: type) -> None:
    """What stands in a list is explained like what stands alone."""
    assert all(len(part.metadata["description"].split()) >= 3 for part in fields(item))


@pytest.mark.parametrize(
    "section",
    [
        *("sessions", "decoding", "batching", "graphs", "history", "reuse"),
        *("reuse.adaptive", "reuse.paper", "reuse.fastv", "reuse.sparsevlm", "reuse.tome"),
    ],
)
def test_every_section_is_described(section: str) -> None:
    """So is what they are gathered under."""
    top, _, below = section.partition(".")
    parts = {part.name: part.metadata["description"] for part in fields(ReuseSettings)}
    said = parts[below] if below else DaemonConfig.model_fields[top].description

    assert len((said or "").split()) >= 3


@pytest.mark.parametrize("key", KEYS)
def test_every_key_can_be_turned(tmp_path: Path, key: str) -> None:
    """A value in the YAML arrives, and is not the default."""
    value = OTHER_VALUES[key]
    text = yaml.safe_dump({"checkpoint": "somewhere"} | BESIDE.get(key, {}) | nested(key, plain(value)))

    assert value_at(load_config(written(tmp_path, text), {}), key) == value
    assert KEYS[key][1] != value


@pytest.mark.parametrize("key", KNOBS)
def test_a_knob_out_of_range_is_refused_with_the_range(tmp_path: Path, key: str) -> None:
    """Which knob, what it was, between what it has to lie."""
    value, expected = OUT_OF_RANGE[key]
    file = written(tmp_path, yaml.safe_dump({"checkpoint": "there"} | nested(key, yaml.safe_load(value))))

    assert complaint(file) == f"{file}: {key.rpartition('.')[0]!r}: {expected}"


def test_a_bare_off_is_the_mode(tmp_path: Path) -> None:
    """YAML reads it as false; we know what was meant."""
    config = load_config(written(tmp_path, "checkpoint: x\nreuse: {mode: off}\ndecoding: {draft: off}"), {})

    assert (config.reuse.mode, config.decoding.draft) == ("off", "off")


def test_a_radius_of_nothing_is_refused(tmp_path: Path) -> None:
    """It says what a radius looks like."""
    said = complaint(written(tmp_path, "checkpoint: x\ndecoding: {radius: []}"))

    assert said.endswith("'decoding': radius is []; expected one number, or one for each dimension but the gripper")


def test_a_schedule_that_falls_is_refused(tmp_path: Path) -> None:
    """It says so, and why."""
    said = complaint(written(tmp_path, "checkpoint: x\nreuse: {adaptive: {schedule: [0.5, 0.25]}}"))

    assert said.endswith("'reuse.adaptive': schedule is [0.5, 0.25]; expected shares that never fall: a row that one "
                         "layer drops is not there for the next")  # fmt: skip


def test_the_command_line_wins_and_none_does_not(tmp_path: Path) -> None:
    """An option that was given replaces the YAML's value; one that was not leaves it alone."""
    file = written(tmp_path, "checkpoint: there\nport: 9000\nthreads: 2\n")
    config = load_config(file, {"port": 0, "threads": None, "dtype": "float32"})

    assert (config.port, config.threads, config.dtype) == (0, 2, "float32")


def test_a_checkpoint_alone_is_enough() -> None:
    """Everything else has a default, and the default listens on loopback."""
    config = load_config(None, {"checkpoint": Path("there")})

    assert config.checkpoint == Path("there")
    assert config.host == "127.0.0.1"


def test_a_configuration_does_not_change(tmp_path: Path) -> None:
    """It is passed around between threads."""
    config = load_config(written(tmp_path, "checkpoint: there"), {})

    with pytest.raises(ValueError, match="frozen"):
        config.port = 1


@pytest.mark.parametrize(
    ("line", "near"), [("dytpe: float32", "dtype"), ("Port: 80", "port"), ("queue_frame: 3", "queue_frames")]
)
def test_an_unknown_key_is_refused_with_the_closest(tmp_path: Path, line: str, near: str) -> None:
    """A typo is named, and so is what was meant, and the file it is in."""
    file = written(tmp_path, f"checkpoint: there\n{line}\n")
    said = complaint(file)

    assert said == f"{file}: unknown key {line.partition(':')[0]!r}. Did you mean {near!r}?"


@pytest.mark.parametrize(
    ("line", "wrong", "near"),
    [
        ("reuse: {mod: paper}", "reuse.mod", "mode"),
        ("reuse: {adaptiv: {}}", "reuse.adaptiv", "adaptive"),
        ("reuse: {adaptive: {topk: 3}}", "reuse.adaptive.topk", "top_k"),
        ("sessions: {ttl: 3}", "sessions.ttl", "ttl_s"),
        ("listeners: [{port: 1}, {port: 2, profil: cogact}]", "listeners.1.profil", "profile"),
        (f"tokens: [{{name: a, sha256: {HASH}, scope: [act]}}]", "tokens.0.scope", "scopes"),
    ],
)
def test_an_unknown_knob_is_refused_with_the_closest(tmp_path: Path, line: str, wrong: str, near: str) -> None:
    """Below the top too: what was written by its full name, what was meant among the section's."""
    file = written(tmp_path, f"checkpoint: there\n{line}\n")

    assert complaint(file) == f"{file}: unknown key {wrong!r}. Did you mean {near!r}?"


def test_an_unknown_knob_near_nothing_gets_its_sections_list(tmp_path: Path) -> None:
    """The keys of that section and no others."""
    said = complaint(written(tmp_path, "checkpoint: there\nreuse: {paper: {xyzzy: 1}}\n"))

    assert {word.strip(",") for word in said.partition("Known: ")[2].split()} == {
        key.rpartition(".")[2] for key in KEYS if key.startswith("reuse.paper.")
    }


def test_an_unknown_key_near_nothing_gets_the_whole_list(tmp_path: Path) -> None:
    """Where nothing is close, every key is named."""
    said = complaint(written(tmp_path, "checkpoint: there\nxyzzy: 1\n"))

    assert all(key in said for key in DaemonConfig.model_fields)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("port: http", "'port' is 'http': input should be a valid integer"),
        ("port: yes", "'port' is True: input should be a valid integer"),
        ("queue_frames: true", "'queue_frames' is True: input should be a valid integer"),
        ("max_body_mib: yes", "'max_body_mib' is True: input should be a valid number"),
        ("threads: 1.5", "'threads' is 1.5: input should be a valid integer"),
        ("host: 8", "'host' is 8: input should be a valid string"),
        ("checkpoint: 3", "'checkpoint' is 3: input should be a valid string"),
        ("checkpoint_config: 8", "'checkpoint_config' is 8: input should be an object"),
        ("checkpoint_config: {a: {b: 1}}", "'checkpoint_config': a is {'b': 1}; expected true, false, a finite number"),
        ("checkpoint_config: {a: {b: [c]}}", "'checkpoint_config': a is {'b': ['c']}; expected true, false"),
        ("checkpoint_config: {a: null}", "'checkpoint_config': a is None; expected true, false, a finite number"),
        ("checkpoint_config: {a: .inf}", "'checkpoint_config': a is inf; expected true, false, a finite number"),
        ("checkpoint_config: {a: [1, b]}", "'checkpoint_config': a is [1, 'b']; expected true, false, a finite number"),
        ("device: gpu", "'device' is 'gpu': input should be 'auto', 'cpu' or 'cuda'"),
        ("dtype: fp16", "'dtype' is 'fp16': input should be 'auto', 'float32' or 'bfloat16'"),
        ("port: 65536", "'port' is 65536: input should be less than or equal to 65535"),
        ("port: -1", "'port' is -1: input should be greater than or equal to 0"),
        ("threads: 0", "'threads' is 0: input should be greater than or equal to 1"),
        ("queue_frames: 0", "'queue_frames' is 0: input should be greater than or equal to 1"),
        ("queue_frames: 4097", "'queue_frames' is 4097: input should be less than or equal to 4096"),
        ("max_body_mib: 0", "'max_body_mib' is 0: input should be greater than 0"),
        ("max_body_mib: 257", "'max_body_mib' is 257: input should be less than or equal to 256"),
        ("max_body_mib: .nan", "'max_body_mib' is nan: input should be"),
        ("max_image_pixels: 63", "'max_image_pixels' is 63: input should be greater than or equal to 64"),
        ("default_max_age_ms: 0", "'default_max_age_ms' is 0: input should be greater than 0"),
        ("reuse: 3", "'reuse' is 3: input should be an object"),
        ("reuse: {mode: fast}", "'reuse.mode' is 'fast': input should be 'off', 'exact', 'adaptive', 'paper', "),
        (
            "decoding: {draft: fast}",
            "'decoding.draft' is 'fast': input should be 'exact', 'strict', 'relaxed' or 'off'",
        ),
        ("decoding: {radius: 2}", "'decoding.radius' is 2: input should be a valid array"),
        ("reuse: {slack: often}", "'reuse.slack' is 'often': input should be True, False or 'auto'"),
        ("reuse: {adaptive: {top_k: 1.5}}", "'reuse.adaptive.top_k' is 1.5: input should be a valid integer"),
        ("reuse: {adaptive: {criterion: cosine}}", "'reuse.adaptive.criterion' is 'cosine': input should be "),
        ("frames_per_s: 0", "'frames_per_s' is 0: input should be greater than 0"),
        ("frames_per_s: off", "'frames_per_s' is False: input should be a valid number"),
        ("watchdog_s: 0", "'watchdog_s' is 0: input should be greater than 0"),
        ("drain_s: -1", "'drain_s' is -1: input should be greater than or equal to 0"),
        ("allow_anonymous: 1", "'allow_anonymous' is 1: input should be a valid boolean"),
        ("allowed_hosts: robot.lab", "'allowed_hosts' is 'robot.lab': input should be a valid array"),
        ("listeners: 8777", "'listeners' is 8777: input should be a valid array"),
        ("listeners: [{}]", "'listeners.0.port' is missing: TCP port; 0: any free one"),
        ("listeners: [{port: 65536}]", "'listeners.0': port is 65536; expected 0 to 65535"),
        ("listeners: [{port: 1, profile: grpc}]", "'listeners.0.profile' is 'grpc': input should be 'native', "),
        ("listeners: [{port: 1, center_crop: 1.5}]", "'listeners.0': center_crop is 1.5; expected 0.01 to 1"),
        ("listeners: [{port: 1, cameras: {a: x, b: x}}]", "'listeners.0': cameras has the key 'x' for 2 cameras"),
        ("cameras: {a: x, b: x}", "cameras has the key 'x' for 2 cameras; each needs a picture of its own"),
        ("cameras: {a: ''}", "cameras has an empty name"),
        ("center_crop: 0", "'center_crop' is 0: input should be greater than or equal to 0.01"),
        ("center_crop: 90", "'center_crop' is 90: input should be less than or equal to 1"),
        ("default_instruction: ' '", "'default_instruction': default_instruction is ' '; expected what to do"),
        (f"default_instruction: {'x' * 2049}", "'default_instruction': default_instruction is 'xxx"),
        ("default_instruction: 7", "'default_instruction' is 7: input should be a valid string"),
        ("openpi_metadata: [1]", "'openpi_metadata' is [1]: input should be an object"),
        (
            "openpi_metadata: {a: {b: 1}}",
            "'openpi_metadata': openpi_metadata: a is {'b': 1}; expected true, false, finite",
        ),
        ("openpi_metadata: {a: [[1]]}", "'openpi_metadata': openpi_metadata: a is [[1]]; expected true, false"),
        ("openpi_metadata: {a: [.nan]}", "'openpi_metadata': openpi_metadata: a is [nan]; expected true, false"),
        ("openpi_metadata: {a: null}", "'openpi_metadata': openpi_metadata: a is None; expected true, false"),
        ("listeners: [{port: 1, default_instruction: ''}]", "'listeners.0': default_instruction is ''; expected what"),
        ("listeners: [{port: 1, openpi_metadata: {a: null}}]", "'listeners.0': openpi_metadata: a is None; expected"),
        ("listeners: [{port: 1, session: ' x'}]", "'listeners.0': session is ' x'; expected 1 to 128 printable"),
        ("sessions: {ttl_s: 1h}", "'sessions.ttl_s' is '1h': input should be a valid number"),
        ("default_max_age_ms: .inf", "'default_max_age_ms' is inf: input should be less than or equal to 60000"),
    ],
)
def test_a_wrong_value_is_named_with_what_was_expected(tmp_path: Path, line: str, expected: str) -> None:
    """Wrong types and values out of range: the file, the key, its value, and what it should have been."""
    file = written(tmp_path, yaml.safe_dump({"checkpoint": "there"} | yaml.safe_load(line)))

    assert complaint(file).startswith(f"{file}: {expected}")


def test_all_errors_are_reported_at_once(tmp_path: Path) -> None:
    """Nobody has to start the daemon three times to find three faults."""
    said = complaint(written(tmp_path, "prot: 1\nthreads: 0\n"))

    assert "'prot'" in said
    assert "'threads'" in said
    assert "'checkpoint' is missing: folder of a checkpoint" in said


def test_a_fault_of_the_command_line_is_said_to_be_one() -> None:
    """Without a YAML the blame is on the command line."""
    assert complaint(None, port=70000, checkpoint="x").startswith("the command line: 'port' is 70000: ")
    assert complaint(None).startswith("the command line: 'checkpoint' is missing: ")


@pytest.mark.parametrize("text", ["", "- checkpoint\n", "checkpoint\n", "3: x\n", "null: x\n"])
def test_what_is_no_mapping_is_refused_with_an_example(tmp_path: Path, text: str) -> None:
    """An empty file, a list, a word, keys that are no words: the error shows what a line looks like."""
    file = written(tmp_path, text)

    assert complaint(file) == f"{file}: expected a mapping such as 'checkpoint: checkpoints/jaco-tiny'"


@pytest.mark.parametrize("text", ["checkpoint: [", "a: b: c", b"\xff\xfe\x00", "!!python/object/apply:os.getcwd []"])
def test_what_is_no_yaml_is_refused(tmp_path: Path, text: str | bytes) -> None:
    """Broken syntax, bytes that are no text, and YAML that would run code."""
    file = written(tmp_path, text)

    assert complaint(file).startswith(f"{file} is not YAML: ")


@pytest.mark.parametrize(("name", "why"), [("missing.yaml", "No such file"), (".", "Is a directory")])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str, why: str) -> None:
    """Which file, and why."""
    assert complaint(tmp_path / name).startswith(f"cannot read {tmp_path / name}: {why}")


ANYWHERE = ["0.0.0.0", "::", "10.0.0.7", "robot.lab", "", "localhost.evil.example"]  # noqa: S104 -- read, never listened on
OPEN = "run `stillframe token NAME` and put in what it prints, or allow any caller with 'allow_anonymous: true'"


@pytest.mark.parametrize("host", ANYWHERE)
def test_an_open_daemon_without_tokens_is_refused(tmp_path: Path, host: str) -> None:
    """Whoever reaches it would drive the robot: the address is named, and both ways out."""
    file = written(tmp_path, yaml.safe_dump({"checkpoint": "there", "host": host}))

    assert complaint(file) == (
        f"{file}: other machines reach {host!r}, and there are no 'tokens': {OPEN} (--allow-anonymous)"
    )


def test_an_open_listener_is_an_open_daemon(tmp_path: Path) -> None:
    """A second door counts like the first."""
    file = written(tmp_path, "checkpoint: x\nlisteners: [{port: 8777}, {port: 8778, host: 10.0.0.7}]")

    assert "other machines reach '10.0.0.7'" in complaint(file)


@pytest.mark.parametrize("way_out", ["allow_anonymous: true", f"tokens: [{{name: front, sha256: {HASH}}}]"])
@pytest.mark.parametrize("host", ANYWHERE)
def test_an_open_daemon_is_guarded_or_said_to_be_open(tmp_path: Path, host: str, way_out: str) -> None:
    """Each way out is one."""
    text = yaml.safe_dump({"checkpoint": "there", "host": host}) + way_out

    assert load_config(written(tmp_path, text), {}).host == host


@pytest.mark.parametrize("host", ["127.0.0.1", "127.3.2.1", "::1", "localhost"])
def test_loopback_needs_no_token(tmp_path: Path, host: str) -> None:
    """Only this machine reaches it."""
    assert is_loopback(load_config(written(tmp_path, yaml.safe_dump({"checkpoint": "x", "host": host})), {}).host)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("tls_cert: a.pem", "'tls_cert' and 'tls_key' go together: give both, or neither"),
        ("tls_key: a.pem", "'tls_cert' and 'tls_key' go together: give both, or neither"),
        ("port: 8777\nlisteners: [{port: 8777}]", "port 8777 stands twice; each listener needs its own"),
        ("listeners: [{port: 1}, {port: 1, host: '::1'}]", "port 1 stands twice; each listener needs its own"),
        (
            f"tokens: [{{name: a, sha256: {HASH}}}, {{name: b, sha256: {HASH}}}]",
            "two of 'tokens' have the same sha256; each needs its own",
        ),
        (
            "allowed_hosts: [robot.lab, 'robot.lab:80']",
            "'allowed_hosts' has 'robot.lab:80'; expected a name such as robot.lab, without scheme or port",
        ),
        (
            "allowed_hosts: ['*']",
            "'allowed_hosts' has '*'; expected a name such as robot.lab, without scheme or port",
        ),
        (
            "allowed_origins: [panel.lab]",
            "'allowed_origins' has 'panel.lab'; expected scheme and host, such as https://panel.lab:8443",
        ),
        (
            "allowed_origins: [https://panel.lab/]",
            "'allowed_origins' has 'https://panel.lab/'; expected scheme and host, such as https://panel.lab:8443",
        ),
    ],
)
def test_what_contradicts_itself_is_refused(tmp_path: Path, lines: str, said: str) -> None:
    """Each key alone would do: what does not fit together, or would match nothing, is said at once."""
    file = written(tmp_path, f"checkpoint: there\n{lines}\n")

    assert complaint(file) == f"{file}: {said}"


def test_free_ports_do_not_clash(tmp_path: Path) -> None:
    """0 is a different port each time."""
    assert len(load_config(written(tmp_path, "checkpoint: x\nport: 0\nlisteners: [{port: 0}]"), {}).listeners) == 1


@pytest.mark.parametrize("name", ["", "a b", "a/b", "anonymous", "x" * 65, "é", "a\n"])
def test_a_callers_name_is_plain(tmp_path: Path, name: str) -> None:
    """It stands in logs and errors, and 'anonymous' is taken."""
    file = written(tmp_path, yaml.safe_dump({"checkpoint": "x", "tokens": [{"name": name, "sha256": HASH}]}))

    assert f"{file}: 'tokens.0': name is {name!r}; expected 1 to 64 letters" in complaint(file)


SECRET = "the-token-itself-7f"  # noqa: S105 -- a test's


@pytest.mark.parametrize(
    "tokens",
    [
        [{"name": "front", "sha256": SECRET}],
        [{"name": "front", "token": SECRET, "sha256": HASH}],
        [{"name": "front", "sha256": [SECRET]}],
        [{"name": "front", "sha256": HASH, "scopes": [SECRET]}],
        [SECRET],
        SECRET,
    ],
)
def test_a_token_in_the_wrong_place_is_refused_and_not_repeated(tmp_path: Path, tokens: object) -> None:
    """Somebody pastes the token where its hash belongs: the complaint goes to a terminal or a log."""
    said = complaint(written(tmp_path, yaml.safe_dump({"checkpoint": "x", "tokens": tokens})))

    assert "'tokens" in said
    assert SECRET not in said


def test_a_token_may_only_look(tmp_path: Path) -> None:
    """An empty list of scopes is one: what is served and the metrics, nothing else. None given is to act."""
    tokens = [{"name": "prometheus", "sha256": HASH, "scopes": []}, {"name": "front", "sha256": HASH[::-1]}]
    config = load_config(written(tmp_path, yaml.safe_dump({"checkpoint": "x", "tokens": tokens})), {})

    assert [token.scopes for token in config.tokens] == [[], ["act"]]


@pytest.mark.parametrize("key", ["checkpoint", "record", "tls_cert", "tls_key"])
def test_a_path_at_home_is_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    """As a shell would have it, from the YAML and from the command line."""
    monkeypatch.setenv("HOME", str(tmp_path))
    written_there = {"checkpoint": "x", **BESIDE.get(key, {}), key: "~/models/x"}

    assert value_at(load_config(written(tmp_path, yaml.safe_dump(written_there)), {}), key) == tmp_path / "models/x"
    given = {"checkpoint": Path("x"), **BESIDE.get(key, {}), key: Path("~/models/x")}
    assert value_at(load_config(None, given), key) == tmp_path / "models/x"


def test_a_home_that_is_not_there_is_said_to_be_none(tmp_path: Path) -> None:
    """Of an account that this machine does not know."""
    file = written(tmp_path, "checkpoint: ~no-such-account-7f/models")

    assert complaint(file) == (
        "'checkpoint' is ~no-such-account-7f/models: there is no such home; write the path in full"
    )


@pytest.mark.parametrize("text", ["checkpoint: ~", "checkpoint:", "checkpoint: null"])
def test_nothing_in_place_of_a_path_is_called_null(tmp_path: Path, text: str) -> None:
    """A lone ~ is no home to YAML."""
    said = complaint(written(tmp_path, text))

    assert "'checkpoint' is null, which is how YAML reads ~ and nothing at all: input should be a valid string" in said


@pytest.mark.parametrize(
    ("word", "truth"), [("yes", True), ("on", True), ("No", False), ("off", False), ("true", True)]
)
def test_a_bare_word_answers_a_question(tmp_path: Path, word: str, *, truth: bool) -> None:
    """Where the key asks for true or false, in every section."""
    config = load_config(written(tmp_path, f"checkpoint: x\nallow_anonymous: {word}\nreuse: {{slack: {word}}}"), {})

    assert (config.allow_anonymous, config.reuse.slack) == (truth, truth)


def test_a_bare_word_is_a_word_where_one_is_asked_for(tmp_path: Path) -> None:
    """An arm may be called `on`; a number is neither, and what is quoted answers nothing."""
    config = load_config(written(tmp_path, "checkpoint: no\nlisteners: [{port: 1, session: on}]"), {})

    assert (config.checkpoint, config.listeners[0].session) == (Path("no"), "on")
    assert "'port' is 'on': input should be a valid integer" in complaint(written(tmp_path, "checkpoint: x\nport: on"))
    assert "'allow_anonymous' is 'yes': input should be a valid boolean" in complaint(
        written(tmp_path, "checkpoint: x\nallow_anonymous: 'yes'")
    )


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("port: 010000", "'port' is '010000': input should be a valid integer"),
        ("port: 2:30", "'port' is '2:30': input should be a valid integer"),
        ("watchdog_s: 1:30.5", "'watchdog_s' is '1:30.5': input should be a valid number"),
        ("port: 2026-01-01", "'port' is '2026-01-01': input should be a valid integer"),
        (f"port: {'9' * 5000}", "'port' is '99999"),
        ("reuse: {3: x}", "a key of 'reuse' is 3; expected a word"),
        ("listeners: [{port: 1, null: 2}]", "a key of 'listeners.0' is None; expected a word"),
    ],
)
def test_a_number_is_what_a_person_means(tmp_path: Path, line: str, said: str) -> None:
    """Neither octal nor minutes and seconds; and no error longer than a screen."""
    complained = complaint(written(tmp_path, f"checkpoint: x\n{line}\n"))

    assert said in complained
    assert len(complained) < 600


def test_numbers_in_any_common_form(tmp_path: Path) -> None:
    """Decimal, with underscores, hexadecimal, with an exponent."""
    config = load_config(
        written(tmp_path, "checkpoint: x\nport: 0x1F90\nmax_image_pixels: 4_000_000\ndrain_s: 1e1"), {}
    )

    assert (config.port, config.max_image_pixels, config.drain_s) == (8080, 4_000_000, 10.0)


def test_a_key_that_stands_twice_is_named_with_both_lines(tmp_path: Path) -> None:
    """Tokens above, the template's empty list below: the daemon would be open, and nothing would say so."""
    tokens = f"tokens:\n  - name: front\n    sha256: {HASH}\n"
    file = written(tmp_path, f"checkpoint: x\n{tokens}port: 8000\ntokens: []\n")

    assert complaint(file) == (f"{file}: the key 'tokens' stands twice, in line 2 and in line 6; leave one of them")


@pytest.mark.parametrize(
    ("device", "fine"),
    [("cuda:0", True), ("cuda:11", True), *((no, False) for no in ("cuda:", "cuda:-1", "cuda:01", "cuda:1 ", "mps"))],
)
def test_a_gpu_has_a_number(device: str, *, fine: bool) -> None:
    """Its own or none."""
    if fine:
        assert load_config(None, {"checkpoint": "x", "device": device}).device == device
    else:
        assert f"'device' is {device!r}: input should be 'auto', 'cpu' or 'cuda', or 'cuda:1'" in complaint(
            None, checkpoint="x", device=device
        )


@pytest.mark.parametrize("key", ["checkpoint", "record", "tls_cert", "tls_key"])
def test_a_path_holds_no_zero_byte(tmp_path: Path, key: str) -> None:
    """No file has such a name, and Python would say so in its own words."""
    file = written(tmp_path, f'{key}: "a\\0b"\n')

    assert complaint(file) == rf"{key!r} is a\x00b; expected a path, which holds no zero byte"


def test_a_path_that_is_no_text_is_refused() -> None:
    """Bytes of a command line that are no UTF-8."""
    assert complaint(None, checkpoint=Path("\udcff")) == (
        "the command line: a value is no text in UTF-8; expected names and paths that are"
    )


def test_a_thousand_faults_are_counted(tmp_path: Path) -> None:
    """Another program's YAML is not told key by key, nor a key that is a page."""
    said = complaint(written(tmp_path, "checkpoint: x\n" + "".join(f"xyzzy{n}: 1\n" for n in range(1000))))
    page = complaint(written(tmp_path, f'checkpoint: x\n"{"k" * 800}": 1\n'))

    assert said.count("unknown key 'xyzzy") == 20
    assert said.endswith("; and 980 more")
    assert "k" * 101 not in page


def test_a_long_value_is_not_repeated_whole(tmp_path: Path) -> None:
    """An error is read on a terminal."""
    assert len(complaint(written(tmp_path, f"checkpoint: x\ndevice: {'g' * 5000}"))) < 600


@pytest.mark.parametrize(
    ("values", "one"),
    [
        ({}, True),
        ({"host": "::1"}, True),
        ({"host": "0.0.0.0", "allow_anonymous": True}, False),  # noqa: S104 -- never bound
        ({"listeners": [{"port": 1, "host": "10.0.0.1"}], "allow_anonymous": True}, False),
        ({"tokens": [{"name": "a", "sha256": "0" * 64}]}, False),
    ],
)
def test_where_all_that_ask_are_one_caller(values: dict[str, Any], one: bool) -> None:  # noqa: FBT001 (a parameter)
    """Programs of this machine, with no token to tell them apart; addresses and tokens do."""
    assert load_config(None, {"checkpoint": Path("nowhere"), **values}).one_caller is one
