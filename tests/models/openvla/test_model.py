from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from stillframe.domain import Observation
from stillframe.errors import CheckpointError, Unprocessable
from stillframe.models.base import Prefilled
from stillframe.models.crop import cropped
from stillframe.models.llama import weight_packing
from stillframe.models.llama.decoder import Decoder
from stillframe.models.llama.draft import Draft
from stillframe.models.llama.history_attention import HistoryKV
from stillframe.models.llama.runner import DecoderRunner
from stillframe.models.llama.speculative import DecodeResult
from stillframe.models.openvla import model
from stillframe.models.openvla.model import OpenVLA
from stillframe.models.prismatic import network as network_module
from stillframe.models.prismatic.config import PrismaticConfig
from stillframe.models.registry import decoder_sizes, load_policy
from stillframe.reuse.kv import FrameKV, KVShape

PICTURE = np.zeros((224, 224, 3), np.uint8)


def load(folder: Path) -> OpenVLA:
    """The folder's policy in fp32."""
    policy = load_policy(folder, dtype=torch.float32, device=torch.device("cpu"))
    assert isinstance(policy, OpenVLA)
    return policy


def published_config() -> dict[str, Any]:
    """What config.json of openvla-7b says, as far as we read it: text_config holds only its differences."""
    return {
        "model_type": "openvla",
        "arch_specifier": "no-align+fused-gelu-mlp",
        "image_resize_strategy": "resize-naive",
        "use_fused_vision_backbone": True,
        "vision_backbone_id": "dinosiglip-vit-so-224px",
        "timm_model_ids": ["vit_large_patch14_reg4_dinov2.lvd142m", "vit_so400m_patch14_siglip_224"],
        "n_action_bins": 256,
        "pad_to_multiple_of": 64,
        "pad_token_id": 32000,
        "norm_stats": {},
        "text_config": {"model_type": "llama", "pad_token_id": 32000, "torch_dtype": "bfloat16", "vocab_size": 32064},
    }


def test_text_config_with_only_its_differences() -> None:
    """What openvla-7b leaves out is Llama-2-7B's, by LlamaConfig's defaults."""
    config = PrismaticConfig.from_json(published_config())
    decoder = config.decoder

    assert (decoder.vocab_size, config.bins.text_vocab_size) == (32064, 32000)
    assert (decoder.hidden_size, decoder.intermediate_size, decoder.num_hidden_layers) == (4096, 11008, 32)
    assert (decoder.num_attention_heads, decoder.num_key_value_heads, decoder.head_dim) == (32, 32, 128)
    assert (decoder.rms_norm_eps, decoder.rope_theta, decoder.max_position_embeddings) == (1e-6, 1e4, 2048)


def test_published_towers_need_no_overrides() -> None:
    """The timm ids alone give both towers' sizes."""
    dino, siglip = PrismaticConfig.from_json(published_config()).towers

    assert (dino.embed_dim, dino.depth, dino.num_heads, dino.mlp_dim, dino.prefix_tokens) == (1024, 24, 16, 4096, 5)
    assert (siglip.embed_dim, siglip.depth, siglip.num_heads, siglip.mlp_dim) == (1152, 27, 16, 4304)
    assert dino.grid == siglip.grid == 16


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("arch_specifier", "gelu-mlp"),
        ("image_resize_strategy", "letterbox"),
        ("use_fused_vision_backbone", False),
        ("vision_backbone_id", "siglip-vit-so400m"),
    ],
)
def test_an_unsupported_variant_is_named(folder: Path, edit: Callable, key: str, value: object) -> None:
    """The error gives the field, what it says and what is supported."""
    supported = published_config()[key]
    edit("config.json", lambda config: config.update({key: value}))

    with pytest.raises(CheckpointError) as caught:
        load(folder)
    assert str(caught.value) == f"config.json: {key} is {value!r}; only {supported!r} is supported"


@pytest.mark.parametrize(
    ("key", "value"), [("model_type", "mistral"), ("hidden_act", "gelu"), ("rope_scaling", {"type": "linear"})]
)
def test_an_unsupported_decoder_is_named(folder: Path, edit: Callable, key: str, value: object) -> None:
    """A decoder that we would compute wrongly is refused rather than run."""
    edit("config.json", lambda config: config["text_config"].update({key: value}))

    with pytest.raises(CheckpointError, match=rf"text_config\.{key} is .*; only .* is supported"):
        load(folder)


@pytest.mark.parametrize("size", ["32", None, 0, -16, [16], 16.0, 2.5, True])
def test_a_size_that_is_no_whole_number(folder: Path, edit: Callable, size: object) -> None:
    """Sizes have to be whole numbers above 0."""
    edit("config.json", lambda config: config["text_config"].update(hidden_size=size))

    with pytest.raises(CheckpointError, match=r"text_config\.hidden_size is .*; expected a whole number above 0"):
        load(folder)


@pytest.mark.parametrize(("key", "value"), [("rms_norm_eps", "1e-6"), ("rope_theta", 0), ("rope_theta", True)])
def test_a_constant_that_is_no_number(folder: Path, edit: Callable, key: str, value: object) -> None:
    """Epsilon and theta may be fractions, but not words."""
    edit("config.json", lambda config: config["text_config"].update({key: value}))

    with pytest.raises(CheckpointError, match=rf"text_config\.{key} is .*; expected a number above 0"):
        load(folder)


def test_constants_may_be_fractions() -> None:
    """A fraction or a whole number, as JSON has it."""
    config = published_config()
    config["text_config"] |= {"rms_norm_eps": 1e-5, "rope_theta": 500000}
    decoder = PrismaticConfig.from_json(config).decoder

    assert (decoder.rms_norm_eps, decoder.rope_theta) == (1e-5, 500000)


@pytest.mark.parametrize(
    ("key", "sizes"),
    [
        ("hidden_size", {"hidden_size": 18, "num_attention_heads": 4, "num_key_value_heads": 4}),
        ("num_attention_heads", {"hidden_size": 16, "num_attention_heads": 4, "num_key_value_heads": 3}),
    ],
)
def test_heads_that_do_not_divide(folder: Path, edit: Callable, key: str, sizes: dict[str, int]) -> None:
    """The decoder's width is shared out among its heads, and these among the heads of keys and values."""
    edit("config.json", lambda config: config["text_config"].update(sizes))

    with pytest.raises(CheckpointError, match=rf"text_config\.{key} is .*; expected a multiple of num_.*, which is "):
        load(folder)


def test_heads_are_not_grouped_unless_it_says_so() -> None:
    """Without num_key_value_heads there are as many as query heads, as in LlamaConfig."""
    config = published_config()
    config["text_config"]["num_attention_heads"] = 16

    assert PrismaticConfig.from_json(config).decoder.num_key_value_heads == 16


@pytest.mark.parametrize("key", ["pad_to_multiple_of", "n_action_bins"])
def test_true_is_no_number(folder: Path, edit: Callable, key: str) -> None:
    """JSON's truth values are not taken for 1 and 0."""
    edit("config.json", lambda config: config.update({key: True}))

    with pytest.raises(CheckpointError, match=f"config.json: {key} is True; expected int"):
        load(folder)


@pytest.mark.parametrize("bins", [-1, 1, 10**6])
def test_bins_that_the_vocabulary_does_not_hold(folder: Path, edit: Callable, bins: int) -> None:
    """There are at least two, and all of them are words."""
    edit("config.json", lambda config: config.update(n_action_bins=bins))

    with pytest.raises(CheckpointError, match=rf"n_action_bins is {bins}; expected 2 to \d+, which is text_config\."):
        load(folder)


def test_statistics_that_are_no_mapping(folder: Path, edit: Callable) -> None:
    """A list in their place is named, even where others beside the weights would win."""
    edit("config.json", lambda config: config.update(norm_stats=["jaco_sim"]))

    with pytest.raises(CheckpointError, match=r"config\.json: norm_stats is a list; expected data sets by name"):
        load(folder)


def test_actions_of_another_length_are_unsupported(folder: Path, edit: Callable) -> None:
    """Two arms or none: the error says whose statistics, how many numbers, and which are supported."""

    def lengthen(sets: dict[str, Any]) -> None:
        action = sets["jaco_sim"]["action"]
        action.update({name: action[name] * 2 for name in ("q01", "q99", "mask")})

    edit("dataset_statistics.json", lengthen)

    with pytest.raises(
        CheckpointError, match=r"\(jaco_sim\) are of actions with 14 numbers; only 7 are supported: dx, "
    ):
        load(folder)


@pytest.mark.parametrize("key", ["text_config", "pad_to_multiple_of", "n_action_bins", "timm_model_ids"])
def test_a_missing_field_is_named(folder: Path, edit: Callable, key: str) -> None:
    """A field that has to be there says of which kind it should be."""
    edit("config.json", lambda config: config.pop(key))

    with pytest.raises(CheckpointError, match=f"config.json: {key} is None; expected (dict|int|list)"):
        load(folder)


def test_other_towers_are_refused(folder: Path, edit: Callable) -> None:
    """Vision models that we have no sizes for are listed beside those we have."""
    edit("config.json", lambda config: config.update(timm_model_ids=["vit_base_patch16_clip_224.openai"]))

    with pytest.raises(CheckpointError, match=r"timm_model_ids are .*clip_224.*; only .*dinov2.*siglip.* are"):
        load(folder)


@pytest.mark.parametrize("overrides", [["x"], {"vit_so400m_patch14_siglip_224": {"widht": 3}}])
def test_overrides_that_do_not_apply(folder: Path, edit: Callable, overrides: object) -> None:
    """Misspelt sizes of a tower are an error of the checkpoint."""
    edit("config.json", lambda config: config.update(timm_overrides=overrides))

    with pytest.raises(CheckpointError, match="timm_overrides cannot be applied"):
        load(folder)


@pytest.mark.parametrize(("key", "value"), [("depth", 2.0), ("embed_dim", True), ("num_heads", 0), ("depth", "2")])
def test_overrides_that_are_no_sizes(folder: Path, edit: Callable, key: str, value: object) -> None:
    """A tower's sizes are whole numbers above 0 as well."""
    tower = "vit_so400m_patch14_siglip_224"
    edit("config.json", lambda config: config["timm_overrides"].update({tower: {key: value}}))

    with pytest.raises(
        CheckpointError, match=rf"timm_overrides\.{tower}\.{key} is .*; expected a whole number above 0"
    ):
        load(folder)


def test_a_tower_whose_heads_do_not_divide(folder: Path, edit: Callable) -> None:
    """A tower's width is shared out among its heads."""
    edit("config.json", lambda config: [each.update(num_heads=5) for each in config["timm_overrides"].values()])

    with pytest.raises(CheckpointError, match=r"embed_dim is 16; expected a multiple of num_heads, which is 5"):
        load(folder)


@pytest.mark.parametrize("change", [{"input_sizes": [[3, 336, 336]] * 2}, {"tvf_normalize_params": "first"}])
def test_pixels_that_the_towers_cannot_take(folder: Path, edit: Callable, change: dict[str, Any]) -> None:
    """A preprocessor for another size, or for one tower alone, is refused before the first frame."""

    def apply(config: dict[str, Any]) -> None:
        first = config["tvf_normalize_params"][:1]
        config.update({key: first if value == "first" else value for key, value in change.items()})

    edit("preprocessor_config.json", apply)

    with pytest.raises(CheckpointError, match=r"makes \d x \(\d+, \d+\) pixels; expected 2 x \(224, 224\)"):
        load(folder)


def test_an_unknown_family_is_told_which_are_served(folder: Path, edit: Callable) -> None:
    """Another model_type is named, with the choices and the nearest."""
    edit("config.json", lambda config: config.update(model_type="openvlaa"))

    with pytest.raises(
        CheckpointError,
        match=r"'openvlaa'; served are: cogact, openvla, openvla_oft, pi0, pi05\. Did you mean 'openvla'\?",
    ):
        load(folder)


def test_statistics_beside_the_weights_win(folder: Path, edit: Callable) -> None:
    """dataset_statistics.json goes before config.json's norm_stats; without it those are used."""
    edit("dataset_statistics.json", lambda sets: sets.update(other=sets.pop("jaco_sim")))
    beside = load(folder).info.norm_stats
    (folder / "dataset_statistics.json").unlink()
    inside = load(folder).info.norm_stats

    assert list(beside) == ["other"]
    assert list(inside) == ["jaco_sim"]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda sets: sets["jaco_sim"]["action"]["q99"].__setitem__(0, 7.0), "differ in jaco_sim and are not used"),
        (lambda sets: sets.update(bridge=sets["jaco_sim"]), "differ in bridge and are not used"),
        (lambda sets: sets["jaco_sim"].update(num_transitions=3), None),
        (lambda _: None, None),
    ],
)
def test_statistics_that_differ_are_not_chosen_in_silence(
    folder: Path, edit: Callable, caplog: pytest.LogCaptureFixture, change: Callable, named: str | None
) -> None:
    """Both are there and scale actions differently: the log says which count; what scales nothing may differ."""
    edit("dataset_statistics.json", change)
    load(folder)
    said = [record.getMessage() for record in caplog.records if "dataset_statistics.json" in record.getMessage()]

    assert len(said) == (named is not None)
    assert named is None or said[0].endswith(named)


def test_no_statistics_at_all(folder: Path, edit: Callable) -> None:
    """Without statistics an action means nothing, so nothing is served."""
    (folder / "dataset_statistics.json").unlink()
    edit("config.json", lambda config: config.pop("norm_stats"))

    with pytest.raises(CheckpointError, match=r"no action statistics; put a dataset_statistics\.json"):
        load(folder)


def test_info_is_the_contract(folder: Path) -> None:
    """Clients read there what the numbers mean; parameters count what is computed with."""
    policy = load(folder)
    info = policy.info
    statistics = json.loads((folder / "dataset_statistics.json").read_text())["jaco_sim"]["action"]

    assert (info.family, info.device, info.dtype) == ("openvla", "cpu", "float32")
    assert (info.image_size, info.cameras, info.chunk_horizon) == ((224, 224), ("image",), 1)
    assert info.action_names == ("dx", "dy", "dz", "droll", "dpitch", "dyaw", "gripper")
    assert (info.default_unnorm_key, info.norm_stats) == ("jaco_sim", {"jaco_sim": statistics})
    assert info.parameters == sum(weight.numel() for weight in policy.network.parameters())
    assert info.batch_invariant == policy.decoder.batch_invariant


def test_the_layout_covers_every_row(folder: Path) -> None:
    """BOS, patches, text and action lie end to end, and the prompt's rows are those embedded."""
    policy = load(folder)
    prepared = policy.prepare(Observation({"wrist": PICTURE}, "pick up the red cube"))
    layout = prepared.layout

    assert layout.patches == {"wrist": range(1, 257)}
    assert layout.patch_grid == (16, 16)
    assert layout.text == range(257, 256 + len(prepared.ids))
    assert layout.action == range(layout.text.stop, layout.text.stop + 7)
    assert len(policy.embed([prepared])[0]) == layout.prompt_rows == layout.total_rows - 7


def test_the_longest_instruction_that_fits_is_served(folder: Path, edit: Callable) -> None:
    """Prompt and action together may fill the decoder's positions; one word more is refused."""
    edit("config.json", lambda config: config["text_config"].update(max_position_embeddings=280))
    policy = load(folder)
    prepared = policy.prepare(Observation({"image": PICTURE}, " ".join(["cube"] * 13)))

    assert prepared.layout.total_rows == 280
    with pytest.raises(Unprocessable, match="takes 18 tokens; this policy reads at most 17"):
        policy.prepare(Observation({"image": PICTURE}, " ".join(["cube"] * 14)))


@pytest.mark.parametrize("cameras", [[], ["left", "right"]])
def test_it_sees_exactly_one_picture(folder: Path, cameras: list[str]) -> None:
    """None or several pictures: the error says which it got."""
    got = ", ".join(cameras) or "none"

    with pytest.raises(Unprocessable, match=f"exactly one picture; got: {got}") as caught:
        load(folder).prepare(Observation(dict.fromkeys(cameras, PICTURE), "wait"))
    assert (caught.value.code, caught.value.pointer) == ("unknown-camera", "/image")


def test_the_middle_of_a_picture_is_what_it_sees(folder: Path) -> None:
    """Where an observation says so, in views and in pixels; beside one that does not, nothing is mixed up."""
    policy, seen = load(folder), np.random.default_rng(3).integers(0, 256, (60, 80, 3), np.uint8)
    whole, middle = (policy.prepare(Observation({"image": seen}, "wait", center_crop=crop)) for crop in (None, 0.9))
    expected = cropped(seen, 0.9, (224, 224))

    assert np.array_equal(middle.views["image"], expected)
    assert torch.equal(middle.pixels[0], policy.pixels.normalised(expected))
    assert np.array_equal(whole.views["image"], policy.pixels.views(seen))
    assert not np.array_equal(whole.views["image"], expected)


@pytest.fixture
def both(folder: Path, edit: Callable) -> OpenVLA:
    """A policy that sees a front and a wrist camera."""
    edit("config.json", lambda config: config.update(cameras=["front", "wrist"]))
    return load(folder)


def test_several_cameras_lie_end_to_end(both: OpenVLA) -> None:
    """Each camera's patches in the policy's order, then text and action; the prompt's rows are those embedded."""
    prepared = both.prepare(Observation({"front": PICTURE, "wrist": PICTURE}, "pick up the red cube"))
    layout = prepared.layout

    assert both.info.cameras == ("front", "wrist")
    assert dict(layout.patches) == {"front": range(1, 257), "wrist": range(257, 513)}
    assert layout.text == range(513, 512 + len(prepared.ids))
    assert layout.action == range(layout.text.stop, layout.text.stop + 7)
    assert prepared.pixels.shape == (2, 6, 224, 224)
    assert len(both.embed([prepared])[0]) == layout.prompt_rows == layout.total_rows - 7


def test_pictures_find_their_place_by_name(both: OpenVLA) -> None:
    """The order in which a client sends its cameras changes nothing; which picture is whose does."""
    front, wrist = np.random.default_rng(0).integers(0, 256, (2, 224, 224, 3), dtype=np.uint8)
    sent = both.prepare(Observation({"front": front, "wrist": wrist}, "wait"))
    reversed_ = both.prepare(Observation({"wrist": wrist, "front": front}, "wait"))
    swapped = both.prepare(Observation({"front": wrist, "wrist": front}, "wait"))

    assert list(reversed_.views) == ["front", "wrist"]
    assert torch.equal(sent.pixels, reversed_.pixels)
    assert torch.equal(both.embed([sent])[0], both.embed([reversed_])[0])
    assert torch.equal(sent.pixels, swapped.pixels.flip(0))


def test_a_cameras_rows_depend_on_its_picture_alone(both: OpenVLA) -> None:
    """Another wrist picture changes the wrist's rows and no others, so a still front view stays still."""
    front, wrist = np.random.default_rng(0).integers(0, 256, (2, 224, 224, 3), dtype=np.uint8)
    prepared = both.prepare(Observation({"front": front, "wrist": wrist}, "wait"))
    moved = both.prepare(Observation({"front": front, "wrist": PICTURE}, "wait"))
    changed = (both.embed([prepared])[0] != both.embed([moved])[0]).any(-1).nonzero().flatten().tolist()

    assert changed == list(prepared.layout.patches["wrist"])


@pytest.mark.parametrize(
    ("cameras", "code", "detail"),
    [
        (["front"], "missing-camera", "no picture from camera 'wrist'; this policy needs front, wrist"),
        ([], "missing-camera", "no picture from camera 'front'"),
        (["front", "palm"], "unknown-camera", "no camera 'palm'; this policy has front, wrist"),
        (["front", "wrist", "palm"], "unknown-camera", "no camera 'palm'"),
        (["image"], "unknown-camera", "no camera 'image'"),
    ],
)
def test_several_cameras_are_all_needed_by_name(both: OpenVLA, cameras: list[str], code: str, detail: str) -> None:
    """A missing or unknown camera is named, beside those that the policy has."""
    with pytest.raises(Unprocessable, match=detail) as caught:
        both.prepare(Observation(dict.fromkeys(cameras, PICTURE), "wait"))
    assert (caught.value.code, caught.value.pointer) == (code, "/images")


def test_a_lone_camera_may_have_a_name(folder: Path, edit: Callable) -> None:
    """config.json may name one camera; its picture is still taken under any name."""
    edit("config.json", lambda config: config.update(cameras=["front"]))
    policy = load(folder)

    assert policy.info.cameras == ("front",)
    assert list(policy.prepare(Observation({"image": PICTURE}, "wait")).layout.patches) == ["image"]


def test_every_camera_takes_its_share_of_the_positions(folder: Path, edit: Callable) -> None:
    """Two cameras leave 256 positions less for the instruction."""
    edit("config.json", lambda config: config["text_config"].update(max_position_embeddings=536))
    edit("config.json", lambda config: config.update(cameras=["front", "wrist"]))
    images = {"front": PICTURE, "wrist": PICTURE}
    policy = load(folder)

    assert policy.prepare(Observation(images, " ".join(["cube"] * 13))).layout.total_rows == 536
    with pytest.raises(Unprocessable, match="takes 18 tokens; this policy reads at most 17"):
        policy.prepare(Observation(images, " ".join(["cube"] * 14)))


@pytest.mark.parametrize("cameras", ["front", [], [1], [""], ["front", "front"], None, {"front": 1}])
def test_cameras_that_are_no_names(folder: Path, edit: Callable, cameras: object) -> None:
    """They are a list of names, each different."""
    edit("config.json", lambda config: config.update(cameras=cameras))

    with pytest.raises(CheckpointError, match=r"config\.json: cameras is .*; expected (a list of|every name once)"):
        load(folder)


TWO_SETS = {  # what an arm does, in two data sets' units
    "jaco_sim": {"q01": [-1.0] * 6 + [0.0], "q99": [1.0] * 6 + [1.0], "mask": [True] * 6 + [False]},
    "lopsided": {"q01": [-0.1] * 6 + [0.0], "q99": [0.9] * 6 + [1.0], "mask": [True] * 6 + [False]},
}


@pytest.fixture
def lopsided(folder: Path, edit: Callable) -> OpenVLA:
    """A policy that knows two data sets, of which one moves mostly one way."""
    edit("dataset_statistics.json", lambda sets: sets.update({key: {"action": own} for key, own in TWO_SETS.items()}))
    return load(folder)


def test_an_arm_that_stays_does_nothing_in_its_own_units(lopsided: OpenVLA) -> None:
    """What is guessed where nothing better is known moves no axis by more than half a bin, whichever data set's."""
    for key, scale in lopsided.statistics.scales.items():
        still = lopsided.prepare(Observation({"image": PICTURE}, "wait", unnorm_key=key)).no_motion_tokens
        actions = scale.unnormalise(lopsided.config.bins.decode(still))

        assert np.abs(actions[:6]).max() <= (scale.q99 - scale.q01).max() / 255


def test_a_slot_holds_everything_but_the_text(lopsided: OpenVLA, both: OpenVLA) -> None:
    """BOS, every camera's patches and the action: what a prompt takes beside the words behind BOS."""
    for policy in (lopsided, both):
        images = dict.fromkeys(policy.info.cameras, PICTURE)
        key = next(iter(policy.statistics.scales))
        prepared = policy.prepare(Observation(images, "pick up the red cube", unnorm_key=key))

        assert prepared.layout.total_rows == policy.fixed_rows + len(prepared.ids) - 1
        assert policy.image_shape == tuple(prepared.pixels.shape[1:]) == (6, 224, 224)


@torch.inference_mode()
def test_rows_lie_where_the_layout_says(both: OpenVLA) -> None:
    """BOS first, each camera's patches as the towers see them, then the words; of each of several frames its own."""
    pictures = np.random.default_rng(1).integers(0, 256, (4, 224, 224, 3), dtype=np.uint8)
    prepared = [
        both.prepare(Observation({"front": pictures[at], "wrist": pictures[at + 1]}, words))
        for at, words in ((0, "wait"), (2, "pick up the red cube"))
    ]
    for own, rows in zip(prepared, both.embed(prepared), strict=True):
        words = both.decoder.embed(own.ids)
        seen = both.network.patches(own.pixels)

        assert torch.equal(rows[:1], words[:1])
        assert torch.equal(rows[own.layout.text.start : own.layout.text.stop], words[1:])
        for patches, expected in zip(own.layout.patches.values(), seen, strict=True):
            torch.testing.assert_close(rows[patches.start : patches.stop], expected, rtol=0, atol=1e-5)


def test_a_decoded_action_is_scaled_by_its_own_statistics(lopsided: OpenVLA, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its tokens, in [-1, 1] and in the data set's units; passes and guesses as they were told."""
    heard: list[Prefilled] = []
    ids = np.array([31990, 31800, 31872, 31750, 31999, 31744, 31872]) - 32000 + lopsided.config.bins.text_vocab_size

    def said(_: object, frames: Sequence[Prefilled]) -> list[DecodeResult]:
        heard.extend(frames)
        return [DecodeResult(ids, 3, 5, bit_equal=bool(at)) for at, _ in enumerate(frames)]

    monkeypatch.setattr(model, "speculative_decode", said)
    given = [
        Prefilled(
            lopsided.prepare(Observation({"image": PICTURE}, "wait", unnorm_key=key)),
            torch.zeros(7, 16),
            FrameKV(KVShape(1, 1, 2, 4, torch.float32, torch.device("cpu")).allocate()),
            Draft(ids + at),
            HistoryKV(torch.empty(0), torch.empty(0), torch.empty(0), at),
        )
        for at, key in enumerate(TWO_SETS)
    ]
    unit = lopsided.config.bins.decode(ids)
    decoded_ones = lopsided.act(given, DecoderRunner(lopsided.decoder))

    for at, (decoded, key) in enumerate(zip(decoded_ones, TWO_SETS, strict=True)):
        scale = lopsided.statistics.scales[key]
        assert decoded.chunk.actions.tolist() == [scale.unnormalise(unit).tolist()]
        assert decoded.normalised.tolist() == [unit.tolist()]
        assert (decoded.passes, decoded.accepted, decoded.bit_equal, decoded.chunk.unnorm_key) == (3, 5, bool(at), key)
        assert heard[at] is given[at]


@pytest.mark.parametrize("found", [True, False])
def test_a_network_is_packed_before_it_serves(folder: Path, monkeypatch: pytest.MonkeyPatch, *, found: bool) -> None:
    """Fused, without gradients, its head measured before it is packed, and tested for batch invariance."""
    asked: list[list[str]] = []

    def is_batch_invariant(decoder: Decoder) -> bool:
        asked.append([name for name, _ in decoder.model.layers[0].self_attn.named_children()])
        return found

    def pack_for_inference(network: torch.nn.Module) -> None:
        known.append(math.isfinite(network.language_model.max_head_norm))  # type: ignore[operator]  # a decoder
        weight_packing.pack_for_inference(network)

    known: list[bool] = []
    monkeypatch.setattr(network_module, "is_batch_invariant", is_batch_invariant)
    monkeypatch.setattr(network_module, "pack_for_inference", pack_for_inference)
    policy = load(folder)
    head = load_file(folder / "model.safetensors")["language_model.lm_head.weight"]

    assert known == [True]
    assert "kv_proj" in asked[0]
    assert "k_proj" not in asked[0]
    assert policy.decoder.batch_invariant is found
    assert policy.decoder.max_head_norm == pytest.approx(float(head.norm(dim=-1).max()), rel=1e-5)
    assert not any(weight.requires_grad for weight in policy.network.parameters())
    assert not policy.network.training


@pytest.mark.parametrize(
    "key", ["arch_specifier", "image_resize_strategy", "use_fused_vision_backbone", "vision_backbone_id"]
)
def test_a_variant_that_is_not_named_is_none_of_ours(key: str) -> None:
    """What config.json does not say is not guessed."""
    config = published_config()
    del config[key]

    with pytest.raises(CheckpointError, match=rf"config\.json: {key} is None; only .* is supported"):
        PrismaticConfig.from_json(config)


def test_towers_come_in_their_order() -> None:
    """DINOv2 first: the names of the tensors follow it."""
    config = published_config()
    config["timm_model_ids"].reverse()

    with pytest.raises(CheckpointError, match="timm_model_ids are"):
        PrismaticConfig.from_json(config)


def test_each_tower_has_overrides_of_its_own() -> None:
    """By its timm id; the other stays as it is."""
    config = published_config()
    for at, key in enumerate(config["timm_model_ids"]):
        config["timm_overrides"] = {key: {"depth": 3}}
        towers = PrismaticConfig.from_json(config).towers

        assert [tower.depth == 3 for tower in towers] == [at == 0, at == 1]


@pytest.mark.parametrize(("bins", "fits"), [(2, True), (32000, True), (32001, False), (32064, False)])
def test_bins_fill_the_vocabulary_without_its_padding_at_most(bins: int, *, fits: bool) -> None:
    """Two at least, and no more than there are words."""
    config = published_config() | {"n_action_bins": bins}

    if fits:
        assert PrismaticConfig.from_json(config).bins.bins == bins
    else:
        with pytest.raises(CheckpointError, match="expected 2 to 32000"):
            PrismaticConfig.from_json(config)


def test_a_decoders_sizes_are_read_without_its_weights(folder: Path) -> None:
    """To choose a dtype before anything is loaded."""
    expected = load(folder).config.decoder
    (folder / "model.safetensors").unlink()

    assert decoder_sizes(folder) == expected
