from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stillframe.daemon.config import load_config
from stillframe.domain import Observation
from stillframe.errors import CheckpointError, Unprocessable
from stillframe.models.base import Prefilled
from stillframe.models.llama.draft import Draft
from stillframe.models.llama.layout import Mask
from stillframe.models.llama.runner import DecoderRunner
from stillframe.models.pi0.flow import Flow
from stillframe.models.pi0.model import Pi0
from stillframe.models.pi0.pixels import PaddedPixels
from stillframe.models.pi0.platforms import platform_of
from stillframe.models.pi0.prompt import discretised
from stillframe.models.prismatic.from_sentencepiece import convert
from stillframe.reuse.kv import FrameKV, KVShape
from stillframe.web.dialects.openpi import OPENPI

FolderOf = Callable[[str], Path]
Load = Callable[..., Pi0]
Change = Callable[..., None]
CONFIGS = Path(__file__).parents[3] / "configs"
BASE, WRIST = "base_0_rgb", "left_wrist_0_rgb"
PICTURE = np.full((256, 256, 3), 90, np.uint8)
STATE = np.linspace(-0.3, 0.4, 8)


@pytest.mark.parametrize(
    ("name", "keys", "what"),
    [
        ("pi0-micro", {"cameras": ["base_rgb"]}, "expected one or more of base_0_rgb, left_wrist_0_rgb"),
        ("pi0-micro", {"cameras": [BASE, BASE]}, "cameras is"),
        ("pi0-micro", {"action_horizon": 0}, "unknown"),
        ("pi0-micro", {"discrete_state_input": True}, "only pi0.5 in words"),
        ("pi05-micro", {"discrete_state_input": "yes"}, "discrete_state_input is 'yes'; expected true or false"),
        ("pi0-micro", {"num_inference_steps": 0}, "num_inference_steps is 0; expected a whole number from 1 to 100"),
        ("pi0-micro", {"action_names": ["a"] * 9}, "there are 9 action_names"),
        ("pi0-micro", {"state_names": ["x"], "state_units": ["m", "m"]}, "there are 1 state_names and 2 state_units"),
        ("pi0-micro", {"state_names": ["x"], "state_units": ["m"]}, "to number 5 of an action the state's is added"),
        ("pi0-micro", {"action_names": "dx"}, "action_names is 'dx'; expected a list of words"),
    ],
)
def test_keys_that_do_not_fit_are_refused(
    folder_of: FolderOf, load: Load, name: str, keys: dict[str, Any], what: str
) -> None:
    """What was wrong and what was expected."""
    folder = folder_of(name)
    if "action_horizon" in keys:  # which is the checkpoint's to say
        with pytest.raises(Exception, match="checkpoint_config has 'action_horizon'"):
            load(folder, **keys)
        return
    with pytest.raises(CheckpointError) as caught:
        load(folder, **keys)
    assert what in str(caught.value)


def test_the_horizon_has_to_be_there(folder_of: FolderOf, load: Load, edit: Change) -> None:
    """No tensor shows how many actions an answer holds."""
    folder = folder_of("pi0-micro")
    edit(folder / "config.json", lambda config: config.pop("action_horizon"))

    with pytest.raises(CheckpointError, match="action_horizon is None; expected a whole number"):
        load(folder)


def test_a_policy_on_libero_has_openpis_meaning(folder_of: FolderOf, load: Load) -> None:
    """Two cameras, a state of eight numbers with units, actions by name; differences for pi0, none for pi0.5."""
    pi0, pi05 = load(folder_of("pi0-micro")), load(folder_of("pi05-micro"))
    info = pi0.info

    assert (info.family, info.chunk_horizon, info.cameras) == ("pi0", 50, (BASE, WRIST))
    assert info.action_names[0] == "dx"
    assert info.state is not None
    assert (info.state.names[0], info.state.units[0], len(info.state.names)) == ("x", "m", 8)
    assert pi0.config.relative == (*(True,) * 6, False)
    assert (pi05.info.family, pi05.info.chunk_horizon, pi05.info.state) == ("pi05", 10, None)
    assert not pi05.config.form.with_state
    assert not any(pi05.config.relative)
    stats, key = pi0.config.statistics.data_sets["physical-intelligence/libero"], "physical-intelligence/libero"
    assert stats.state is not None
    assert info.norm_stats[key]["q01"][0] == pytest.approx(stats.action.low[0] + stats.state.low[0])
    assert info.norm_stats[key]["q01"][6] == pytest.approx(stats.action.low[6])


@pytest.mark.parametrize(("name", "served"), [("pi0-micro", "pi0"), ("pi05-micro", "pi05")])
def test_the_configurations_that_are_shipped_say_what_is_known_of_libero(
    folder_of: FolderOf, load: Load, caplog: pytest.LogCaptureFixture, name: str, served: str
) -> None:
    """Every key of theirs is the guess by the assets' name; with them nothing is left to guess."""
    folder = folder_of(name)
    guessed = load(folder).config
    caplog.clear()
    keys = load_config(CONFIGS / f"{served}.yaml", {}).checkpoint_config or {}
    said = load(folder, **keys).config

    assert replace(said, statistics=guessed.statistics) == guessed
    assert {*keys} >= {"cameras", "extra_delta_transform", "adapt_to_pi", "num_inference_steps"}
    assert not caplog.records


def test_what_nothing_says_is_logged(folder_of: FolderOf, load: Load, caplog: pytest.LogCaptureFixture) -> None:
    """Whether the state is among the words of a pi0.5 is a guess, unless the deployment says it."""
    folder = folder_of("pi05-micro")
    with caplog.at_level(logging.INFO):
        load(folder, discrete_state_input=True, extra_delta_transform=False)
        assert not caplog.records
        load(folder)
    assert "the state is not in the prompt, as openpi trains pi0.5 on LIBERO" in caplog.text


def test_a_robot_is_known_by_its_assets() -> None:
    """Where all are of one."""
    names = [
        platform.name
        for platform in map(platform_of, (("trossen",), ("droid",), ("physical-intelligence/libero",)))
        if platform
    ]

    assert names == ["ALOHA", "DROID", "LIBERO"]
    assert platform_of(("droid", "libero")) is None
    assert platform_of(()) is None


def test_lerobots_processors_say_which_numbers_are_differences(folder_of: FolderOf, load: Load, edit: Change) -> None:
    """All but those whose names have an excluded word; without names all."""
    folder = folder_of("pi0-micro-lerobot")
    plain = load(folder).config.relative
    for file, step in (("policy_postprocessor.json", 1), ("policy_preprocessor.json", 5)):
        edit(folder / file, lambda document, at=step: document["steps"][at]["config"].update(enabled=True))
    unnamed = load(folder).config.relative
    names = [*(f"joint_{at}" for at in range(6)), "gripper"]
    edit(
        folder / "policy_preprocessor.json", lambda document: document["steps"][5]["config"].update(action_names=names)
    )

    assert plain == (False,) * 7
    assert unnamed == (True,) * 7
    assert load(folder).config.relative == (*(True,) * 6, False)


def test_bins_of_a_state() -> None:
    """255 at the upper end and above, -1 below the lower; each as wide as the next."""
    assert discretised(np.array([-1.01, -1.0, -0.9921, 0.0, 0.99, 1.0, 7.0])) == [-1, 0, 1, 128, 254, 255, 255]


@pytest.mark.parametrize(
    ("name", "said", "ids"),
    [
        ("pi0-micro", " pick up_the\nspoon ", "pick up the spoon"),
        ("pi05-micro", " pick up_the\nspoon ", "pick up the spoon"),
        ("pi0-micro-lerobot", "pick up the spoon\n", "pick up the spoon"),
    ],
)
def test_what_is_cleaned_from_a_text(folder_of: FolderOf, load: Load, name: str, said: str, ids: str) -> None:
    """Lerobot's pi0 only sees to it that a line break ends it, once."""
    prompt = load(folder_of(name)).prompt
    found = prompt.ids(said)

    assert found == prompt.ids(ids)
    assert (found[0], found[-1]) == (2, 108)
    cleaned = prompt.ids("pick_up") == prompt.ids("pick up")
    assert cleaned == ("lerobot" not in name)


def test_a_tokenizer_json_gives_the_same_ids(folder_of: FolderOf, load: Load) -> None:
    """Where there is no SentencePiece model: newer lerobots save nothing else."""
    folder = folder_of("pi05-micro")
    plain, file = load(folder, discrete_state_input=True).prompt, folder / "tokenizer.model"
    (folder / "paligemma_tokenizer.model").rename(file)
    (folder / "tokenizer_config.json").write_text('{"bos_token": "<bos>"}')
    convert(file).save(str(folder / "tokenizer.json"))
    file.unlink()
    fast = load(folder, discrete_state_input=True).prompt

    assert fast.ids("pick up the spoon", STATE) == plain.ids("pick up the spoon", STATE)
    assert fast.ids("put it down") == plain.ids("put it down")
    assert fast.facts == plain.facts
    assert fast.unknown_words("pick up the żółw") == plain.unknown_words("pick up the żółw") == ("żół",)


def test_a_prompt_that_is_too_long_is_refused(folder_of: FolderOf, load: Load) -> None:
    """The reference would cut off its end, for which the network was trained to wait."""
    prompt = load(folder_of("pi0-micro")).prompt

    with pytest.raises(Unprocessable, match=r"the prompt takes [0-9]+ tokens; this policy reads at most 48") as caught:
        prompt.ids("pick up the spoon " * 20)
    assert caught.value.code == "instruction-too-long"
    assert prompt.unknown_words("pick up the żółw") == ("żół",)
    assert prompt.unknown_words("pick up the spoon") == ()


def test_pictures_are_padded_in_the_middle() -> None:
    """Black above and below a wide one, beside a high one; one of the right size is itself."""
    wide, high = np.full((100, 200, 3), 255, np.uint8), np.full((200, 100, 3), 255, np.uint8)
    for antialias in (True, False):
        pixels = PaddedPixels(antialias=antialias)
        (flat, values), (tall, _) = pixels.look(wide), pixels.look(high)
        assert (flat[:56].max(), flat[56:168].min(), flat[168:].max()) == (0, 255, 0)
        assert (tall[:, :56].max(), tall[:, 56:168].min(), tall[:, 168:].max()) == (0, 255, 0)
        assert (values.shape, float(values.min()), float(values.max())) == ((3, 224, 224), -1.0, 1.0)
        same = np.arange(224 * 224 * 3, dtype=np.uint32).astype(np.uint8).reshape(224, 224, 3)
        assert np.array_equal(pixels.look(same)[0], same)


def test_times_are_those_of_the_origin() -> None:
    """Openpi's are summed up in float32, lerobot's are not; both begin at noise."""
    summed, plain = Flow().times, Flow(accumulated=False).times

    assert (summed[0], plain[0]) == (1.0, 1.0)
    assert summed[3] == np.float32(0.6999999)
    assert plain[3] == np.float32(0.7)
    assert summed[-1] == pytest.approx(0.1, abs=2e-7)
    assert Flow(steps=4).codes(8).shape == (4, 8)


def test_a_picture_may_be_read_only() -> None:
    """A decoder's picture often is; it is neither refused nor warned about, and stays as it is."""
    picture = np.full((224, 224, 3), 51, np.uint8)
    picture.setflags(write=False)

    _, pixels = PaddedPixels().look(picture)

    assert torch.all(pixels == torch.tensor(51 / 255 * 2 - 1))


@pytest.mark.parametrize(("name", "keys"), [("pi0-micro", {}), ("pi05-micro", {"discrete_state_input": True})])
def test_openpis_libero_client_finds_everything(
    folder_of: FolderOf, load: Load, name: str, keys: dict[str, Any]
) -> None:
    """Its two pictures, its state of eight numbers and its prompt, by the names that it sends; rows lie end to end."""
    policy = load(folder_of(name), **keys)
    sent = {
        "observation/image": PICTURE,
        "observation/wrist_image": PICTURE + 1,
        "observation/state": STATE,
        "prompt": "put the spoon on the towel",
    }
    fields = OPENPI.translate(sent, policy.info).fields
    prepared = policy.prepare(Observation(fields["images"], fields["instruction"], state=np.asarray(fields["state"])))
    layout = prepared.layout

    assert [*prepared.views] == [BASE, WRIST]
    assert prepared.views[WRIST].max() == 91
    assert layout.patches == {BASE: range(256), WRIST: range(256, 512)}
    assert layout.text == range(512, 512 + len(prepared.ids))
    assert (layout.prompt_rows, layout.total_rows, layout.answer_rows) == (len(prepared.ids) + 512,) * 2 + (1,)
    assert layout.looking == layout.text
    assert policy.mask is layout.mask is Mask.BIDIRECTIONAL
    assert policy.fixed_rows + len(prepared.ids) == layout.total_rows
    assert OPENPI.metadata(policy.info)["action_horizon"] == policy.info.chunk_horizon


def test_a_state_of_another_length_is_refused(folder_of: FolderOf, load: Load) -> None:
    """With the names of those that are read; a missing one as well."""
    policy = load(folder_of("pi0-micro"))
    for state, code in ((None, "missing-state"), (STATE[:7], "wrong-state")):
        with pytest.raises(Unprocessable) as caught:
            policy.prepare(Observation({BASE: PICTURE, WRIST: PICTURE}, "lift", state=state))
        assert caught.value.code == code


@torch.inference_mode()
def test_robots_drawn_together_get_what_each_gets_alone(folder_of: FolderOf, load: Load) -> None:
    """Prefixes of three lengths, padded to the longest: the padding is seen by none of them."""
    policy = load(folder_of("pi0-micro"), real=True)
    shape = KVShape(3, 1, 16, 600, torch.float32, torch.device("cpu"))
    frames, chance = [], torch.Generator().manual_seed(3)
    for at, words in enumerate(("lift", "put the spoon on the towel", "open it")):
        images = {BASE: PICTURE, WRIST: PICTURE}
        prepared = policy.prepare(Observation(images, words, state=STATE * at))
        kv = FrameKV(torch.randn(shape.allocate().shape, generator=chance))
        frames.append(Prefilled(prepared, torch.empty(0), kv, Draft(prepared.no_motion_tokens), seed=at))
    runner = DecoderRunner(policy.decoder)
    together = policy.act(frames, runner)

    assert len({frame.prepared.layout.prompt_rows for frame in frames}) == 3
    for one, frame in zip(together, frames, strict=True):
        (alone,) = policy.act([frame], runner)
        np.testing.assert_allclose(one.chunk.actions, alone.chunk.actions, rtol=0, atol=1e-5)
        assert one.normalised.shape == (50, 7)
        assert (alone.bit_equal, one.bit_equal) == (True, False)
