"""Recognises, by the names in it, a folder that is no checkpoint we serve, before anything is read.

Knows the layouts that people download or train; opens nothing but small JSON files.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from itertools import islice
from pathlib import Path
from typing import Any

from stillframe.errors import CheckpointError, closest
from stillframe.files.json import read_object, reading
from stillframe.files.kinds import mistaken, shown
from stillframe.models.hub.ids import hub_id

MOST_ENTRIES = 10_000  # of a folder that are read
LISTED = 20  # of them in an error
URL = re.compile(r"[a-z][a-z0-9+]*:/+.", re.IGNORECASE)

HEADS = ("action_head*", "proprio_projector*")
DIFFUSION, FILM = ("noisy_action_projector*",), ("vision_backbone--*",)
ADAPTER = ("adapter_config.json", "adapter_model.*")
QUANTISED = ("quantize_config.json", "quant_config.json", "hf_quant_config.json")
LEROBOT = ("policy_preprocessor.json", "policy_postprocessor.json")
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.pickle")
UNFINISHED = ("*.incomplete", "*.part", "*.aria2", "*.crdownload", "*.download", "*.tmp")
ELSEWHERE = ("*.gguf", "*.h5", "*.msgpack", "*.onnx", "*.npz", "*.engine", "*.mlmodel", "*.tflite")
ONLY = "only whole, unquantised checkpoints in one of the layouts of docs/checkpoints.md are served"
FLOWS = ("pi0", "pi05")  # lerobot's types that are served
OF_LEROBOT = f"of lerobot's policies only those of type {' and '.join(FLOWS)} are served"


def refusal(path: Path, names: Sequence[str]) -> str | None:
    """What the folder is and what to do, where its `names` alone show that it cannot be served as it is."""
    return (
        _hub_cache(path, names)
        or _another_family(path, names)
        or _piece(path, names)
        or (_by_config(path, names) if "config.json" in names else None)
    )


def entries(path: Path) -> list[str]:
    """Names in a folder, sorted; of a very large one only the first found."""
    with reading(path):
        return sorted(entry.name for entry in islice(path.iterdir(), MOST_ENTRIES))


def absent(path: Path) -> str:
    """Why a path is no folder, and what was probably meant."""
    said = f"{shown(path)} is not a folder; expected a checkpoint with config.json and safetensors"
    return f"{said}{_hint(path)}"


def instead(path: Path, name: str, listed: Sequence[str] | None = None) -> str:
    """What there is in place of a file that is missing, and what to do: the rest of 'lacks {name}'.

    `listed`: names in it, where the folder is not here, or not all of it.
    """
    file, names = path / name, entries(path) if listed is None else listed
    if file.is_symlink() and not file.exists():
        return f": it is a link to {shown(file.readlink())}, which is not there; copy it with cp -rL"
    if name in names and not file.is_file():
        return f"; found: {', '.join(map(shown, names[:LISTED]))}; what is there of that name is no plain file"
    found = ", ".join(map(shown, names[:LISTED])) or "nothing"
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    why = _missing_config(path, names) if name == "config.json" else _missing_file(name, names)
    return f"; found: {found}{more}" + (f"; {why}" if why else "")


def _hint(path: Path) -> str:
    if path.is_symlink():
        return f"; it is a link to {shown(path.readlink())}, which is not there"
    if path.is_file():
        if path.suffix in {".yaml", ".yml"}:
            return f"; that is a configuration: stillframe serve {shown(path)}"
        kind = mistaken(path)
        return f"; it {kind}" if kind else f"; that is a file: name the folder that it lies in, {shown(path.parent)}"
    if URL.match(str(path)):
        return "; nothing is fetched from an address: download the checkpoint first and name its folder"
    beside = entries(path.parent) if path.parent.is_dir() else []
    near = closest(path.name, beside)
    if not near and (wanted := hub_id(path)) and not _checkpoints(path.parent, beside):
        folder = f"checkpoints/{path.name}"
        return (
            f"; of the hub's repository of that name nothing is here: run `hf download {wanted.repository} --local-dir "
            f"{folder}` first, and name the folder, {folder}"
        )
    return near and f".{near}"


def _hub_cache(path: Path, names: Sequence[str]) -> str | None:
    """The cache of huggingface_hub, a level or two above the files."""
    if "snapshots" in names and "config.json" not in names:
        made = [f"{shown(path)}/snapshots/{name}" for name in entries(path / "snapshots")]
        which = f"name its snapshot: {' or '.join(made[:3])}" if made else "it has no snapshot: download it again"
        return f"{shown(path)} is a repository in the cache of huggingface_hub; {which}"
    cached = [name for name in names if name.startswith("models--")]
    if cached and "config.json" not in names:
        which = ", ".join(map(shown, cached[:LISTED]))
        return f"{shown(path)} is the cache of huggingface_hub; name a snapshot of one of: {which}"
    return None


def _another_family(path: Path, names: Sequence[str]) -> str | None:
    film, diffusion = _matching(names, FILM), _matching(names, DIFFUSION)
    if film:
        return (
            f"{shown(path)} is an OpenVLA-OFT checkpoint with FiLM, for it has {shown(film[0])}: there the instruction "
            "steers the vision towers, which is not served; of OpenVLA-OFT those without FiLM are"
        )
    if diffusion:
        return (
            f"{shown(path)} is an OpenVLA-OFT checkpoint with a diffusion head, for it has {shown(diffusion[0])}: that "
            "takes 50 passes an answer, and is not served; of OpenVLA-OFT those with an L1 head are"
        )
    if (path / "config.json").is_file() and draws_by_flow(read_object(path / "config.json")):
        return None
    if _matching(names, LEROBOT):
        return f"{shown(path)} is a policy of lerobot, for it has {_matching(names, LEROBOT)[0]}; {OF_LEROBOT}"
    if "pretrained_model" in names and "training_state" in names:
        return (
            f"{shown(path)} is a training checkpoint of lerobot, for it has pretrained_model/: name that; {OF_LEROBOT}"
        )
    if any((path / place).exists() for place in ("params/_METADATA", "params/manifest.ocdbt", "params/_sharding")):
        return (
            f"{shown(path)} is a checkpoint of openpi in JAX, for it has params/: convert it with openpi's "
            "examples/convert_jax_model_to_pytorch.py, and serve what that writes"
        )
    if any((path / "assets").glob("*/norm_stats.json")) or any((path / "assets").glob("*/*/norm_stats.json")):
        return (
            f"{shown(path)} is a checkpoint of openpi, for it has norm_stats.json in assets/, without the config.json "
            "that openpi's conversion to PyTorch writes: serve what its examples/convert_jax_model_to_pytorch.py wrote"
        )
    return None


def _piece(path: Path, names: Sequence[str]) -> str | None:
    """An adapter, or quantised weights."""
    adapter = _matching(names, ADAPTER)
    if adapter:
        return (
            f"{shown(path)} holds a LoRA adapter ({shown(adapter[0])}), to be laid over {_base(path)}, and no "
            "checkpoint of its own: merge the two (peft's merge_and_unload), save that, and serve it; "
            "if it is merged already, move the adapter's files away"
        )
    quantised = _matching(names, QUANTISED)
    if quantised:
        return f"{shown(path)} holds quantised weights, for it has {quantised[0]}; {ONLY}"
    return None


def _by_config(path: Path, names: Sequence[str]) -> str | None:
    """By what config.json holds beside model_type."""
    config = read_object(path / "config.json") if (path / "config.json").is_file() else {}
    for key in ("quantization_config", "compression_config"):
        if config.get(key):
            method = config[key].get("quant_method") if isinstance(config[key], dict) else config[key]
            return f"{shown(path)}/config.json has {key} ({shown(method)}): its weights are quantised; {ONLY}"
    if "model_type" in config:
        return None
    return _unnamed(path, names, config)


def _unnamed(path: Path, names: Sequence[str], config: dict[str, Any]) -> str | None:
    """A config.json without model_type is of another tool."""
    if draws_by_flow(config):
        return None
    if isinstance(config.get("type"), str) and ("input_features" in config or "output_features" in config):
        return (
            f"{shown(path)} is a policy of lerobot, of type {shown(config['type'])}, by its config.json; {OF_LEROBOT}"
        )
    if draws_by_diffusion(config):
        return None
    if "vla" in config and "checkpoints" in names:
        return (
            f"{shown(path)} is a training run of Prismatic (OpenVLA's own), with pickles in checkpoints/; "
            "convert it with OpenVLA's vla-scripts/extern/convert_openvla_weights_to_hf.py and serve what that writes"
        )
    return None


def draws_by_diffusion(config: Mapping[str, Any]) -> bool:
    """Whether config.json is that of a run that trained a diffusion head."""
    return "vla" in config and ("action_model_type" in config or "future_action_window_size" in config)


def draws_by_flow(config: Mapping[str, Any]) -> bool:
    """Whether config.json is that of a policy whose expert flows from noise to actions: openpi's, or lerobot's."""
    if "type" in config:
        return config["type"] in FLOWS
    return "model_type" not in config and ("paligemma_variant" in config or "action_expert_variant" in config)


def _missing_config(path: Path, names: Sequence[str]) -> str | None:
    """A level too high or too low, or another tool's folder."""
    below = _checkpoints(path, names)
    if below:
        return f"name the folder below: {' or '.join(f'{shown(path)}/{shown(name)}' for name in below[:5])}"
    if (path.resolve().parent / "config.json").is_file():
        return f"the folder above has one: name {shown(path.resolve().parent)}"
    elsewhere = _matching(names, ELSEWHERE)
    return _lone_head(names) or (f"{shown(elsewhere[0])} is of another tool; {ONLY}" if elsewhere else None)


def _lone_head(names: Sequence[str]) -> str | None:
    """A head, or a projector of the state, without the checkpoint that it was trained with."""
    heads = _matching(names, HEADS)
    if not heads:
        return None
    return f"{shown(heads[0])} is a head without its backbone: put the checkpoint beside it that it was trained with"


def _checkpoints(path: Path, names: Sequence[str]) -> list[str]:
    """Subfolders that may be checkpoints."""
    return [name for name in islice(names, LISTED * 10) if (path / name / "config.json").is_file()]


def _missing_file(name: str, names: Sequence[str]) -> str | None:
    """One file is missing from what is a checkpoint otherwise."""
    if any(name in (part, Path(part).stem) or part.startswith(f"{name}.") for part in _matching(names, UNFINISHED)):
        return "its download has not finished"
    if not name.endswith(".safetensors"):
        return None
    shards = _matching(names, ("*-of-*.safetensors",))
    if shards and name == "model.safetensors":
        return f"{len(shards)} shards are there without model.safetensors.index.json: fetch it"
    heads = _matching(names, HEADS)
    pickles = [one for one in _matching(names, PICKLES) if one != "training_args.bin" and one not in heads]
    if pickles and not _matching(names, ("*.safetensors",)):
        return (
            f"its weights are pickles ({shown(pickles[0])}), which can run code and are never opened: load them where "
            "you trust them and save them again with save_pretrained(FOLDER, safe_serialization=True)"
        )
    elsewhere = _matching(names, ELSEWHERE)
    return _lone_head(names) or (f"{shown(elsewhere[0])} is of another tool; {ONLY}" if elsewhere else None)


def _base(path: Path) -> str:
    """The model that an adapter names as its base."""
    try:
        base = read_object(path / "adapter_config.json").get("base_model_name_or_path")
    except CheckpointError:
        base = None
    return shown(base) if isinstance(base, str) and base else "its base model"


def _matching(names: Sequence[str], patterns: Sequence[str]) -> list[str]:
    return list(_matches(names, patterns))


def _matches(names: Sequence[str], patterns: Sequence[str]) -> Iterator[str]:
    for name in names:
        if any(fnmatchcase(name.lower(), pattern.lower()) for pattern in patterns):
            yield name
