from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from stillframe.config import DaemonConfig, load_config
from stillframe.errors import ConfigError

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
OTHER_VALUES: dict[str, Any] = {  # one per key, none of them its default
    "checkpoint": Path("elsewhere"),
    "device": "cpu",
    "dtype": "bfloat16",
    "threads": 3,
    "host": "0.0.0.0",  # noqa: S104 -- read, never listened on
    "port": 0,
    "queue_frames": 7,
    "max_body_mib": 0.5,
    "max_image_pixels": 64,
    "default_max_age_ms": 250.5,
}


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
    assert {"jaco-tiny", "openvla-7b"} <= {file.stem for file in CONFIGS.glob("*.yaml")}


def test_the_configuration_of_jaco_tiny_shows_every_key() -> None:
    """A reader of that file sees all there is to set."""
    shown = yaml.safe_load((CONFIGS / "jaco-tiny.yaml").read_text())

    assert set(shown) == set(DaemonConfig.model_fields)


@pytest.mark.parametrize("key", DaemonConfig.model_fields)
def test_every_key_is_described(key: str) -> None:
    """A key that nobody explains is a key that nobody turns."""
    assert len((DaemonConfig.model_fields[key].description or "").split()) >= 3


@pytest.mark.parametrize("key", DaemonConfig.model_fields)
def test_every_key_can_be_turned(tmp_path: Path, key: str) -> None:
    """A value in the YAML arrives, and is not the default."""
    value = OTHER_VALUES[key]
    text = yaml.safe_dump({"checkpoint": "somewhere"} | {key: str(value) if isinstance(value, Path) else value})

    assert getattr(load_config(written(tmp_path, text), {}), key) == value
    assert DaemonConfig.model_fields[key].default != value


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
        ("checkpoint: 3", "'checkpoint' is 3: input is not a valid path"),
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
        ("default_max_age_ms: .inf", "'default_max_age_ms' is inf: input should be less than or equal to 60000"),
    ],
)
def test_a_wrong_value_is_named_with_what_was_expected(tmp_path: Path, line: str, expected: str) -> None:
    """Wrong types and values out of range: the file, the key, its value, and what it should have been."""
    file = written(tmp_path, yaml.safe_dump({"checkpoint": "there"} | yaml.safe_load(line)))

    assert complaint(file).startswith(f"{file}: {expected}")


def test_all_faults_are_told_at_once(tmp_path: Path) -> None:
    """Nobody has to start the daemon three times to find three faults."""
    said = complaint(written(tmp_path, "prot: 1\nthreads: 0\n"))

    assert "'prot'" in said
    assert "'threads'" in said
    assert "'checkpoint' is missing: folder in the layout of openvla-7b" in said


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
