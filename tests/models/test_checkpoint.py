from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from stillframe.domain import Observation
from stillframe.errors import CheckpointError, ConfigError, Unprocessable
from stillframe.models.base import PolicyModel
from stillframe.models.checkpoint import INDEX_NAME, SINGLE_NAME, CheckpointFolder, _check_room
from stillframe.models.openvla.model import OpenVLA
from stillframe.models.registry import decoder_sizes, load_policy

Tensors = dict[str, Tensor]
CPU = torch.device("cpu")
NORM = "language_model.model.norm.weight"
Q_PROJ = "language_model.model.layers.1.self_attn.q_proj.weight"


def load(folder: Path) -> PolicyModel:
    """The whole policy in fp32."""
    return load_policy(folder, dtype=torch.float32, device=CPU)


def refusal(folder: Path) -> str:
    """What the error says."""
    with pytest.raises(CheckpointError) as caught:
        load(folder)
    return str(caught.value)


def rewrite(folder: Path, change: Callable[[Tensors], None]) -> None:
    """Change the single safetensors file."""
    tensors = load_file(folder / SINGLE_NAME)
    change(tensors)
    save_file(tensors, folder / SINGLE_NAME)


def shard(folder: Path) -> dict[str, str]:
    """Split the single file into two shards with an index; tensor name -> shard."""
    tensors = load_file(folder / SINGLE_NAME)
    (folder / SINGLE_NAME).unlink()
    names = sorted(tensors)
    parts = {"part-1.safetensors": names[::2], "part-2.safetensors": names[1::2]}
    for file, held in parts.items():
        save_file({name: tensors[name] for name in held}, folder / file)
    weight_map = {name: file for file, held in parts.items() for name in held}
    write_index(folder, weight_map)
    return weight_map


def write_index(folder: Path, weight_map: Mapping[str, object]) -> None:
    """Say where each tensor lies."""
    (folder / INDEX_NAME).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


def test_the_whole_folder_loads(folder: Path) -> None:
    """The folder that the other tests spoil is a good one."""
    assert load(folder).info.name == "tiny"


def test_a_path_that_is_no_folder(folder: Path) -> None:
    """A file or nothing at all in place of a folder is named, with what was expected."""
    for path in (folder / "config.json", folder / "nowhere"):
        assert f"{path} is not a folder; expected a checkpoint" in refusal(path)


@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json", "tokenizer.json", SINGLE_NAME])
def test_a_missing_file_is_named_beside_what_was_found(folder: Path, name: str) -> None:
    """The error says which file is missing and lists those that are there."""
    (folder / name).unlink()
    text = refusal(folder)

    assert f"{folder} lacks {name}; found: " in text
    assert "generation_config.json" in text


def test_an_empty_folder(tmp_path: Path) -> None:
    """Nothing found is said so."""
    assert refusal(tmp_path).endswith("lacks config.json; found: nothing")


@pytest.mark.parametrize("text", ["{", "\xff", ""])
def test_a_config_that_is_not_json(folder: Path, text: str) -> None:
    """Broken JSON, or bytes that are not UTF-8, name the file."""
    (folder / "config.json").write_text(text, encoding="latin-1")

    assert f"{folder / 'config.json'} is not JSON" in refusal(folder)


def test_a_config_that_is_not_an_object(folder: Path) -> None:
    """JSON of another kind says what it found and what was expected."""
    (folder / "config.json").write_text("[1]")

    assert "holds a list; expected a JSON object" in refusal(folder)


@pytest.mark.parametrize("kept", [0, 4, 300, -64])
def test_a_truncated_file(folder: Path, kept: int) -> None:
    """Weights cut short anywhere are refused with the file's name."""
    file = folder / SINGLE_NAME
    file.write_bytes(file.read_bytes()[:kept])

    assert f"{file} is not a readable safetensors file" in refusal(folder)


def test_garbage_for_weights(folder: Path) -> None:
    """Bytes that are no safetensors are refused with the file's name."""
    (folder / SINGLE_NAME).write_bytes(b"\x80\x04pickle?" * 64)

    assert f"{folder / SINGLE_NAME} is not a readable safetensors file" in refusal(folder)


def test_a_missing_tensor_is_named(folder: Path) -> None:
    """One tensor short: its name, and where it was expected."""
    rewrite(folder, lambda tensors: tensors.pop(NORM))

    assert refusal(folder) == f"{folder} lacks tensor {NORM}"


def test_many_missing_tensors_are_counted(folder: Path) -> None:
    """A different network is not listed by the page: five names and a count."""
    rewrite(folder, lambda tensors: [tensors.pop(name) for name in list(tensors) if ".layers." in name])
    text = refusal(folder)

    assert f"{folder} lacks 18 tensors: " in text
    assert text.endswith(" and 13 more")
    assert text.count("language_model.") == 5


def test_a_misshapen_tensor_names_expected_and_found(folder: Path) -> None:
    """Name, shape found, shape expected, and what to check."""
    rewrite(folder, lambda tensors: tensors.update({Q_PROJ: torch.zeros(16, 8)}))
    text = refusal(folder)

    assert f"tensor {Q_PROJ} has shape (16, 8), expected (16, 16) by config.json" in text
    assert "check that weights and config.json belong together" in text


def test_an_unknown_tensor_is_named(folder: Path) -> None:
    """A tensor that this family has no place for is an error, not a shrug."""
    rewrite(folder, lambda tensors: tensors.update({"value_head.weight": torch.zeros(2)}))

    assert f"{folder} holds unknown tensor value_head.weight; is it another variant?" in refusal(folder)


def test_an_integer_tensor_is_refused(folder: Path) -> None:
    """Quantised or mistaken weights: name, type found, types expected."""
    rewrite(folder, lambda tensors: tensors.update({NORM: torch.ones(16, dtype=torch.int8)}))

    assert f"tensor {NORM} is I8; expected F32, F16 or BF16" in refusal(folder)


def test_a_sharded_folder_equals_the_single_file(folder: Path, pristine: Path) -> None:
    """Shards by the index hold the same network, to the bit."""
    shard(folder)
    ours, whole = (load(path).decoder.state_dict() for path in (folder, pristine))

    assert not (folder / SINGLE_NAME).exists()
    assert ours.keys() == whole.keys()
    assert all(torch.equal(ours[name], whole[name]) for name in whole)


def test_a_missing_shard_is_named(folder: Path) -> None:
    """The index promises a file that is not there."""
    shard(folder)
    (folder / "part-2.safetensors").unlink()

    assert f"{folder} lacks part-2.safetensors; found: " in refusal(folder)


@pytest.mark.parametrize("outside", ["../part-1.safetensors", "/etc/passwd", "deeper/part-1.safetensors", 3, None])
def test_a_shard_outside_the_folder_is_refused(folder: Path, outside: object) -> None:
    """The index cannot lead anywhere else, even to a file that exists."""
    write_index(folder, shard(folder) | {NORM: outside})
    (folder.parent / "part-1.safetensors").write_bytes((folder / "part-1.safetensors").read_bytes())

    assert f"names the shard {outside!r}; expected a plain file name" in refusal(folder)


def test_a_shard_that_lacks_what_the_index_promises(folder: Path) -> None:
    """The error names the shard and the tensor."""
    weight_map = shard(folder)
    (other,) = set(weight_map.values()) - {weight_map[NORM]}
    write_index(folder, weight_map | {NORM: other})

    assert f"{other} lacks tensor {NORM}, which {INDEX_NAME} promises" in refusal(folder)


def test_an_index_without_a_map(folder: Path) -> None:
    """An index of another kind names what it lacks."""
    (folder / INDEX_NAME).write_text('{"weight_map": []}')

    assert "lacks `weight_map`" in refusal(folder)


def test_overwriting_a_loaded_file_changes_nothing(folder: Path) -> None:
    """A checkpoint replaced on disk under a running policy leaves the policy as it was."""
    policy = load(folder)
    before = {name: tensor.clone() for name, tensor in policy.decoder.state_dict().items()}
    file = folder / SINGLE_NAME
    with file.open("r+b") as opened:
        opened.write(bytes(file.stat().st_size))

    assert all(torch.equal(tensor, before[name]) for name, tensor in policy.decoder.state_dict().items())


def test_nothing_is_unpickled(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pickles beside the weights are never opened, and never stand in for them."""

    def never(*_: object, **__: object) -> None:
        raise AssertionError("unpickled")

    for name in ("pytorch_model.bin", "optimizer--1_checkpoint.pt", "training_args.bin"):
        (folder / name).write_bytes(b"cos\nsystem\n(S'exit 1'\ntR.")
    monkeypatch.setattr(torch, "load", never)
    monkeypatch.setattr("pickle.Unpickler", never)
    monkeypatch.setattr("pickle.loads", never)

    assert load(folder).info.family == "openvla"
    (folder / SINGLE_NAME).unlink()
    assert f"lacks {SINGLE_NAME}" in refusal(folder)


def test_a_checkpoints_python_is_never_run(folder: Path, edit: Callable) -> None:
    """`auto_map` and modelling files beside the weights are ignored."""
    (folder / "modeling_prismatic.py").write_text("raise SystemExit(3)")
    edit("config.json", lambda config: config.update(auto_map={"AutoConfig": "modeling_prismatic.OpenVLAConfig"}))

    assert load(folder).info.family == "openvla"


def test_weights_are_cast_to_the_dtype_asked_for(folder: Path) -> None:
    """fp32 on disk, bfloat16 in memory: every tensor."""
    policy = load_policy(folder, dtype=torch.bfloat16, device=CPU)
    assert isinstance(policy, OpenVLA)

    assert {weight.dtype for weight in policy.network.parameters()} == {torch.bfloat16}
    assert policy.info.dtype == "bfloat16"


def test_nothing_is_loaded_when_anything_is_wrong(folder: Path) -> None:
    """A module stays as it was when one of its tensors is misshapen."""
    rewrite(folder, lambda tensors: tensors.update({"b": torch.zeros(3)}))
    module = torch.nn.ParameterDict({"b": torch.ones(2), NORM.replace(".", "_"): torch.ones(16)})

    with pytest.raises(CheckpointError, match="lacks tensor"):
        CheckpointFolder(folder).load_into(module, dtype=torch.float32, device=CPU, unused=[""])
    assert module["b"].tolist() == [1, 1]


def test_an_unknown_unnorm_key_lists_the_choices(folder: Path, edit: Callable) -> None:
    """Before anything is served, a frame with a key that is not there learns which are."""
    edit("dataset_statistics.json", lambda sets: sets.update(bridge_orig=sets["jaco_sim"]))
    policy = load(folder)

    with pytest.raises(Unprocessable, match=r"no statistics 'jaco_smi'; choose one of bridge_orig, jaco_sim\. Did you"):
        policy.prepare(Observation({"image": np.zeros((8, 8, 3), np.uint8)}, "wait", unnorm_key="jaco_smi"))


def test_an_index_wins_over_a_single_file(folder: Path) -> None:
    """Where both are there the shards are read: the single file may be any tool's leftover."""
    weight_map = shard(folder)
    save_file({"leftover": torch.zeros(1)}, folder / SINGLE_NAME)

    assert CheckpointFolder(folder).tensor_files() == {name: folder / file for name, file in weight_map.items()}
    assert load(folder).info.family == "openvla"


def test_a_folder_is_no_file(folder: Path) -> None:
    """Something else under a file's name is as good as nothing."""
    (folder / "config.json").unlink()
    (folder / "config.json").mkdir()

    assert f"{folder} lacks config.json; found: config.json, " in refusal(folder)
    assert not CheckpointFolder(folder).has("config.json")


@pytest.mark.parametrize(("missing", "ends"), [(5, "a, b, c, d, e"), (6, "a, b, c, d, e and 1 more")])
def test_up_to_five_tensors_are_named(folder: Path, missing: int, ends: str) -> None:
    """And only then counted."""
    module = torch.nn.ParameterDict({name: torch.zeros(1) for name in "abcdef"[:missing]})

    with pytest.raises(CheckpointError) as caught:
        CheckpointFolder(folder).load_into(module, dtype=torch.float32, device=CPU, unused=[""])
    assert str(caught.value) == f"{folder} lacks {missing} tensors: {ends}"


@pytest.mark.parametrize(("free", "fits"), [(24, True), (23, False)])
def test_a_gpu_without_room_is_told_before_anything_is_read(
    monkeypatch: pytest.MonkeyPatch, free: int, *, fits: bool
) -> None:
    """Weights in the dtype asked for against what is free there."""
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _device: (free, 10**9))
    module = torch.nn.Linear(5, 2)

    if fits:
        _check_room(module, torch.bfloat16, torch.device("cuda"))
    else:
        with pytest.raises(ConfigError, match="the weights are"):
            _check_room(module, torch.bfloat16, torch.device("cuda"))
    _check_room(module, torch.float32, CPU)


@pytest.mark.parametrize(("free", "fits"), [(14, True), (13, False)])
def test_quantised_weights_count_as_what_they_will_take(
    monkeypatch: pytest.MonkeyPatch, free: int, *, fits: bool
) -> None:
    """Ten numbers in a byte each, two in bfloat16; where they do not fit, no other kind of weights is named."""
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _device: (free, 10**9))
    module, quantised = torch.nn.Linear(5, 2), {"weight": 1.0}

    if fits:
        _check_room(module, torch.bfloat16, torch.device("cuda"), quantised)
        return
    with pytest.raises(ConfigError, match=r"more memory$"):
        _check_room(module, torch.bfloat16, torch.device("cuda"), quantised)
    with pytest.raises(ConfigError, match="quantised weights take less"):
        _check_room(module, torch.bfloat16, torch.device("cuda"))


def test_weights_to_be_quantised_come_as_they_are_stored(tmp_path: Path) -> None:
    """In the file's own mapping, which nothing was copied from; the others in the dtype asked for."""
    stored = {"weight": torch.randn(4, 3).half(), "bias": torch.randn(4).half()}
    save_file(stored, tmp_path / "model.safetensors")
    layer = torch.nn.Linear(3, 4, device="meta")
    folder = CheckpointFolder(tmp_path)
    folder.load_into(layer, dtype=torch.float32, device=CPU, unused=(), quantised={"weight": 1.0})

    assert (layer.weight.dtype, layer.bias.dtype) == (torch.float16, torch.float32)
    assert torch.equal(layer.weight, stored["weight"])
    maps = Path("/proc/self/maps").read_text(encoding="utf-8").splitlines()
    ranges = [line.split()[0].split("-") for line in maps if line.endswith("/model.safetensors")]
    inside = [any(int(a, 16) <= part.data_ptr() < int(b, 16) for a, b in ranges) for part in layer.parameters()]
    assert inside == [True, False]


LAYERS, WIDTH = "text_config.num_hidden_layers", "text_config.hidden_size"


@pytest.mark.parametrize(
    ("sizes", "said"),
    [
        ({"num_hidden_layers": 10**9}, f"config.json says {LAYERS} is 1000000000, but there are "),
        (
            {"hidden_size": 10**12},
            f"config.json says {WIDTH} is 1000000000000, but no side of a stored tensor is longer",
        ),
        ({"intermediate_size": 10**12}, "config.json says text_config.intermediate_size is 1000000000000, but no side"),
        ({"vocab_size": 10**9}, "config.json says text_config.vocab_size is 1000000000, but no side"),
        (
            {"max_position_embeddings": 10**12},
            "text_config.max_position_embeddings is 1000000000000; expected at most ",
        ),
        ({"rms_norm_eps": float("inf")}, "text_config.rms_norm_eps is inf; expected a number above 0"),
        ({"rope_theta": float("nan")}, "text_config.rope_theta is nan; expected a number above 0"),
        ({"rope_theta": 10**400}, "expected a number above 0"),
        ({"hidden_size": 10**4000}, "expected a whole number above 0"),
    ],
)
def test_sizes_that_no_weights_bear_out_are_never_built(folder: Path, edit: Callable, sizes: dict, said: str) -> None:
    """Nor is a layer of such a size timed, to choose a dtype: the files' headers are asked first."""
    edit("config.json", lambda config: config["text_config"].update(sizes))

    with pytest.raises(CheckpointError) as caught:
        decoder_sizes(folder)
    assert said in refusal(folder)
    assert said in str(caught.value)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize(("key", "value"), [("depth", 10**9), ("embed_dim", 10**12), ("image_px", 14 * 10**9)])
def test_towers_that_no_weights_bear_out_are_never_built(folder: Path, edit: Callable, key: str, value: int) -> None:
    """The towers' sizes like the decoder's."""
    edit("config.json", lambda config: [tower.update({key: value}) for tower in config["timm_overrides"].values()])
    text = refusal(folder)

    assert f"timm_overrides.vit_large_patch14_reg4_dinov2.lvd142m.{key} is {value}" in text
    assert "no side of a stored" in text or "tensors in all" in text or "expected at most" in text


def test_a_download_that_stopped_half_way_is_refused(folder: Path) -> None:
    """Room was made for all of it: the header and the first tensors are right, the rest is zeros."""
    file = folder / SINGLE_NAME
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2].ljust(len(whole), b"\0"))
    text = refusal(folder)

    assert text.startswith(f"{file}: tensor ")
    assert "holds zeros only; room was probably made for a download that stopped" in text


def test_a_download_that_stopped_just_before_the_end_is_refused(folder: Path) -> None:
    """Part of the last tensor came."""
    file = folder / SINGLE_NAME
    whole = file.read_bytes()
    file.write_bytes(whole[:-300].ljust(len(whole), b"\0"))

    assert "the last of its file, ends in zeros" in refusal(folder)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("name", [NORM, Q_PROJ, "language_model.lm_head.weight", "projector.fc1.bias"])
def test_a_number_that_is_none_is_refused(folder: Path, name: str, value: float) -> None:
    """A single one, anywhere: the tensor, the value, and its place."""

    def spoil(tensors: Tensors) -> None:
        tensors[name].view(-1)[3] = value

    rewrite(folder, spoil)

    assert f"tensor {name} holds {value} at (" in refusal(folder)


def test_a_number_beyond_the_dtype_asked_for_is_refused(folder: Path) -> None:
    """Finite on disk, and infinite as it would be used."""
    rewrite(folder, lambda tensors: tensors.update({NORM: torch.full((16,), 1e300, dtype=torch.float64)}))

    assert f"tensor {NORM} holds inf at (0,)" in refusal(folder)


@pytest.mark.parametrize("table", ["lm_head", "model.embed_tokens"])
def test_an_action_token_without_weights_is_refused(folder: Path, table: str) -> None:
    """All of them, or one: it would be answered with, or never."""

    def spoil(tensors: Tensors) -> None:
        rows = tensors[f"language_model.{table}.weight"]
        rows[len(rows) - 64 - 1] = 0  # the highest action's; behind it comes padding

    rewrite(folder, spoil)

    assert f"tensor language_model.{table}.weight holds zeros only in row " in refusal(folder)


def test_padding_of_the_vocabulary_may_be_zeros(folder: Path) -> None:
    """No token has those rows."""
    rewrite(folder, lambda tensors: tensors["language_model.lm_head.weight"][-64:].zero_())

    assert load(folder).info.family == "openvla"


@pytest.mark.parametrize("name", ["x" * 5000 + ".safetensors", "a\nb.safetensors", "a\0b.safetensors"])
def test_a_shards_name_that_no_file_has_is_refused(folder: Path, name: str) -> None:
    """Too long for a file system, or not printable."""
    write_index(folder, shard(folder) | {NORM: name})
    text = refusal(folder)

    assert "names the shard '" in text
    assert len(text) < 600


def test_an_index_of_brackets_is_refused(folder: Path) -> None:
    """Where Python would have recursed to its end."""
    (folder / INDEX_NAME).write_text("[" * 100_000)

    assert f"{folder / INDEX_NAME} is not JSON that we read: it is nested deeper than" in refusal(folder)


def test_the_folder_of_an_unreadable_disk_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the system says while a file is read is one line that names it."""

    def broken(*_: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(Path, "open", broken)

    assert refusal(folder) == (
        f"{folder / 'config.json'} cannot be read: Input/output error; check the disk and who may read the file"
    )


def test_a_tokenizer_of_another_vocabulary_is_refused(folder: Path) -> None:
    """Its words would be looked up beyond the end of the decoder's table, frame by frame."""
    document = json.loads((folder / "tokenizer.json").read_text())
    document["model"]["vocab"]["zebra"] = 32_000
    (folder / "tokenizer.json").write_text(json.dumps(document))

    assert "tokenizer.json has ids up to 32000, but the decoder's vocabulary ends at " in refusal(folder)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1842767\n",
            "is not a tokenizer: it is a Git LFS",
        ),
        (b"", "is not a tokenizer: it is empty (0 bytes)"),
        (b"<!DOCTYPE html>", "is not a tokenizer: it is a web page (HTML)"),
        (b"Entry not found", "is not a tokenizer: it is text, which begins 'Entry not found'"),
        (b'{"a": 1}', "is not a tokenizer ("),
        (b"[" * 100_000, "is not a tokenizer ("),
        (bytes(2**26 + 1), "is not a tokenizer: it has 67108865 bytes; expected at most 67108864"),
    ],
)
def test_a_tokenizer_that_is_something_else_is_called_by_its_name(folder: Path, content: bytes, what: str) -> None:
    """In place of 'expected value at line 1'."""
    (folder / "tokenizer.json").write_bytes(content)

    assert f"{folder / 'tokenizer.json'} {what}" in refusal(folder)


@pytest.mark.parametrize("name", ["mean", "std"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), 0.0, -1.0])
def test_pixels_are_normalised_by_numbers(folder: Path, edit: Callable, name: str, value: float) -> None:
    """A std of nought makes every picture infinite."""
    edit("preprocessor_config.json", lambda config: config["tvf_normalize_params"][0].update({name: [value] * 3}))

    if name == "mean" and value in {0.0, -1.0}:
        assert load(folder).info.family == "openvla"
    else:
        assert "preprocessor_config.json: a field is missing or misshapen" in refusal(folder)


@pytest.mark.parametrize(
    ("sizes", "said"),
    [
        (
            {"num_attention_heads": 16, "num_key_value_heads": 16},
            "hidden_size is 16 for 16 heads; expected an even number",
        ),
        ({"max_position_embeddings": 256}, "max_position_embeddings is 256; the pictures alone take 256"),
        (
            {"max_position_embeddings": 256 + 7 + 3},
            "there is no room for an instruction: without one, the instruction takes ",
        ),
    ],
)
def test_sizes_that_no_frame_fits_into_are_refused(folder: Path, edit: Callable, sizes: dict, said: str) -> None:
    """At load, not by the first frame."""
    edit("config.json", lambda config: config["text_config"].update(sizes))

    assert said in refusal(folder)


def test_a_tokenizer_that_cannot_write_the_prompt_is_refused(folder: Path) -> None:
    """Its word for what it does not know is none of its words."""
    model = {"type": "WordLevel", "vocab": {"▁": 0}, "unk_token": "<unk>"}
    (folder / "tokenizer.json").write_text(json.dumps({"version": "1.0", "added_tokens": [], "model": model}))

    assert f"{folder / 'tokenizer.json'} cannot write the prompt: " in refusal(folder)


@pytest.mark.parametrize(
    "settings",
    [
        {"truncation": {"direction": "Right", "max_length": 1, "strategy": "LongestFirst", "stride": 0}},
        {"padding": {"strategy": {"Fixed": 10**9}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0,
                     "pad_type_id": 0, "pad_token": "x"}},
    ],
)  # fmt: skip
def test_what_a_tokenizer_was_last_used_with_is_left_aside(folder: Path, edit: Callable, settings: dict) -> None:
    """Neither cuts the prompt nor fills it up, as with transformers."""
    before = load(folder).prepare(Observation({"image": np.zeros((8, 8, 3), np.uint8)}, "wait")).ids
    edit("tokenizer.json", lambda document: document.update(settings))

    assert torch.equal(load(folder).prepare(Observation({"image": np.zeros((8, 8, 3), np.uint8)}, "wait")).ids, before)


def test_an_index_of_nothing_is_refused(folder: Path) -> None:
    """It names no file."""
    write_index(folder, {})

    assert "lacks `weight_map`; expected the file of each tensor" in refusal(folder)


def test_what_is_no_plain_file_is_said_to_be_none(folder: Path) -> None:
    """A pipe would be waited for."""
    (folder / SINGLE_NAME).unlink()
    os.mkfifo(folder / SINGLE_NAME)

    assert refusal(folder).endswith("what is there of that name is no plain file")
