from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stillframe.errors import CheckpointError, ConfigError
from stillframe.models.registry import FAMILIES
from stillframe_lab.parity.readers import READERS
from stillframe_lab.parity.run import Parity

GOLDENS = Path(__file__).parents[2] / "goldens"
PALIGEMMA = "paligemma_with_expert.paligemma.model"
Compare = Callable[[Path, Path], Parity]
FolderOf = Callable[[str], Path]
Record = Callable[..., Path]
# Cases by stage, of the whole records that the suite holds.
WHOLE = {
    "openvla": (
        GOLDENS / "openvla-micro.npz",
        {
            "pixels": 4,
            "ids": 12,
            "vision": 4,
            "projector": 4,
            "logits": 12,
            "tokens": 12,
            "normalised": 12,
            "actions": 12,
        },
    ),
    "openvla_oft": (
        GOLDENS / "oft-micro.npz",
        {"ids": 20, "state": 8, "hidden": 20, "actions": 16, "said actions": 4},
    ),
    "cogact": (
        GOLDENS / "cogact" / "cogact-micro.npz",
        {"pixels": 3, "ids": 9, "vision": 2, "projector": 4, "hidden": 0, "cognition": 9}
        | {"samples": 30, "normalised": 31, "actions": 33, "ensemble": 4},
    ),
    "pi0": (
        GOLDENS / "pi0" / "pi0-micro.npz",
        {"pixels": 3, "prompt": 0, "ids": 6, "state": 6, "text": 1, "vision": 1, "projector": 1, "positions": 1}
        | {"kv": 1, "hidden": 1, "times": 1, "condition": 0, "steps": 1, "normalised": 6, "actions": 12},
    ),
    "pi05": (
        GOLDENS / "pi0" / "pi05-micro.npz",
        {"pixels": 2, "prompt": 5, "ids": 7, "state": 5, "text": 1, "vision": 0, "projector": 0, "positions": 1}
        | {"kv": 1, "hidden": 1, "times": 1, "condition": 1, "steps": 1, "normalised": 7, "actions": 7},
    ),
}


def test_every_served_family_has_a_reader() -> None:
    """What can be served can be compared."""
    assert READERS.keys() == FAMILIES.keys()


@pytest.mark.parametrize("family", WHOLE)
def test_a_goldens_own_checkpoint_is_within_tolerance(folder_of: FolderOf, compared: Compare, family: str) -> None:
    """Every case at every stage, no key unknown, none left out."""
    file, cases = WHOLE[family]
    parity = compared(folder_of(family), file)

    assert {name: len(each.cases) for name, each in parity.ledger.stages.items()} == cases
    assert (parity.status, parity.ledger.first_over) == (0, None)
    assert (list(parity.unknown_keys), parity.ledger.left_out) == ([], {})
    assert all(each.worst <= each.stage.tolerance for each in parity.ledger.stages.values())


@pytest.mark.parametrize(
    ("family", "tensor", "first"),
    [
        ("openvla", "vision_backbone.featurizer.blocks.0.attn.qkv.weight", "vision"),
        ("openvla", "projector.fc1.weight", "projector"),
        ("openvla", "language_model.model.layers.1.mlp.up_proj.weight", "logits"),
        ("openvla_oft", "language_model.model.layers.1.mlp.up_proj.weight", "hidden"),
        ("openvla_oft", "module.fc1.weight", "hidden"),
        ("openvla_oft", "module.model.fc2.bias", "actions"),
        ("cogact", "vision_backbone.dino_featurizer.blocks.0.attn.qkv.weight", "vision"),
        ("cogact", "projector.projector.2.weight", "projector"),
        ("cogact", "llm_backbone.llm.model.layers.1.mlp.up_proj.weight", "cognition"),
        ("cogact", "action_model.net.blocks.0.mlp.fc1.weight", "samples"),
        ("pi0", f"{PALIGEMMA}.vision_tower.vision_model.post_layernorm.weight", "vision"),
        ("pi0", f"{PALIGEMMA}.multi_modal_projector.linear.weight", "projector"),
        ("pi0", "state_proj.weight", "steps"),
        ("pi05", "time_mlp_out.weight", "condition"),
        ("pi05", "paligemma_with_expert.gemma_expert.model.norm.dense.weight", "steps"),
    ],
)
def test_a_weight_changed_a_little_is_found_at_its_stage(
    folder_of: FolderOf,
    record: Record,
    compared: Compare,
    nudge: Callable[[Path, str], None],
    family: str,
    tensor: str,
    first: str,
) -> None:
    """The first stage over is the one that the tensor is part of; those before it are not."""
    folder = folder_of(family)
    nudge(folder, tensor)
    parity = compared(folder, record(family))
    over = parity.ledger.first_over

    assert parity.status == 1
    assert over is not None
    assert over.stage.name == first
    assert over.worst > over.stage.tolerance


@pytest.mark.parametrize("family", ["openvla", "openvla_oft", "cogact"])
def test_other_statistics_show_in_actions_alone(
    folder_of: FolderOf, record: Record, compared: Compare, edit: Callable[..., None], family: str
) -> None:
    """What scales the last stage changes no other."""
    folder = folder_of(family)

    def widen(sets: dict[str, Any]) -> None:
        for entry in sets.values():
            entry["action"]["q99"][0] += 0.5

    edit(folder / "dataset_statistics.json", widen)
    parity = compared(folder, record(family))

    assert [name for name, each in parity.ledger.stages.items() if each.over] == ["actions"]


def test_other_pixels_are_found_at_the_first_stage(
    folder_of: FolderOf, record: Record, compared: Compare, edit: Callable[..., None]
) -> None:
    """Another mean: other bytes, which have no distance."""
    folder = folder_of("openvla")
    edit(
        folder / "preprocessor_config.json",
        lambda config: config["tvf_normalize_params"][0]["mean"].__setitem__(0, 0.4),
    )
    over = compared(folder, record("openvla")).ledger.first_over

    assert over is not None
    assert (over.stage.name, over.why) == ("pixels", "other bytes")


def test_keys_that_no_readme_describes_are_named(folder_of: FolderOf, record: Record, compared: Compare) -> None:
    """What is known and not compared is not among them."""
    parity = compared(folder_of("openvla"), record("openvla", {"f0/depth": np.zeros(2), "weather": np.zeros(1)}))

    assert list(parity.unknown_keys) == ["f0/depth", "weather"]
    assert parity.status == 0


@pytest.mark.parametrize(
    ("family", "other"),
    [("openvla", "cogact"), ("cogact", "openvla_oft"), ("openvla_oft", "openvla"), ("pi0", "pi05"), ("pi05", "pi0")],
)
def test_another_familys_record_cannot_be_compared(
    folder_of: FolderOf, record: Record, compared: Compare, family: str, other: str
) -> None:
    """Status 2; whose it is is known."""
    parity = compared(folder_of(family), record(other))

    assert (parity.status, parity.layouts) == (2, [other])


def test_a_case_without_its_input_is_left_out(folder_of: FolderOf, record: Record, compared: Compare) -> None:
    """With the reason; the others count."""
    parity = compared(folder_of("openvla_oft"), record("openvla_oft", {"f3_i0_wrist1_proprio1_l1/proprio_raw": None}))

    assert parity.ledger.left_out == {
        "f3_i0_wrist1_proprio1_l1": "the file has no f3_i0_wrist1_proprio1_l1/proprio_raw"
    }
    assert parity.status == 0


def test_a_head_that_is_not_there_leaves_its_cases_out(folder_of: FolderOf, record: Record, compared: Compare) -> None:
    """The checkpoint's own refusal is the reason, and nothing could be compared."""
    folder = folder_of("openvla_oft")
    (folder / "proprio_projector--0_checkpoint.pt").unlink()
    parity = compared(folder, record("openvla_oft"))

    assert parity.status == 2
    assert "there is no projector of the state" in parity.ledger.left_out["wrist1_proprio1_l1"]


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"noise": np.zeros((1, 3, 7), np.float32)}, "RuntimeError"),
        ({"noise": None}, "the file has no noise"),
        ({"f0/frame": np.zeros((8, 8), np.uint8)}, "the picture f0 is uint8 of shape (8, 8)"),
        ({"f0/unnorm_key": np.array("mars")}, "There are no statistics 'mars'"),
        ({"instructions": np.array([], str)}, "nothing says what instruction i0 is"),
    ],
)
def test_arrays_of_no_use_are_said_to_be(
    folder_of: FolderOf, record: Record, compared: Compare, changes: dict[str, Any], why: str
) -> None:
    """A record that is not as its README says ends in a reason, not in a traceback."""
    parity = compared(folder_of("cogact"), record("cogact", changes))

    assert any(reason.startswith(why) for reason in parity.ledger.left_out.values()), parity.ledger.left_out


def test_numbers_that_are_none_are_over(folder_of: FolderOf, record: Record, compared: Compare) -> None:
    """NaN is no small difference; nor is another shape."""
    changes = {"f0_i0/norm_actions": np.full(7, np.nan), "f0_i0/actions": np.zeros(6)}
    stages = compared(folder_of("openvla"), record("openvla", changes)).ledger.stages

    assert (stages["normalised"].verdict, stages["normalised"].why) == ("over", "not finite")
    assert (stages["actions"].verdict, stages["actions"].why) == ("over", "shape (7,), not (6,)")


def test_an_empty_array_stands_for_what_was_not_recorded(
    folder_of: FolderOf, record: Record, compared: Compare
) -> None:
    """It is neither over nor a case."""
    parity = compared(folder_of("openvla"), record("openvla", {"f0/vision": np.empty(0, np.float32)}))

    assert (parity.status, list(parity.unknown_keys)) == (0, [])
    assert parity.ledger.stages["vision"].verdict == "-"


def test_what_is_no_golden_is_refused(folder_of: FolderOf, compared: Compare, tmp_path: Path) -> None:
    """A file that is not there, one of another kind, one array alone; an array that would have to be unpickled."""
    folder, file = folder_of("openvla"), tmp_path / "a.npz"
    with pytest.raises(ConfigError, match="No such file"):
        compared(folder, file)
    file.write_text("hello")
    with pytest.raises(ConfigError, match=r"is no \.npz file of arrays"):
        compared(folder, file)
    np.save(tmp_path / "one.npy", np.zeros(3))
    with pytest.raises(ConfigError, match=r"is no \.npz file of arrays"):
        compared(folder, tmp_path / "one.npy")
    np.savez(file, **{"f0_i0/input_ids": np.array([{}], object)})
    assert compared(folder, file).status == 2


def test_a_folder_that_is_not_served_is_refused(compared: Compare, record: Record, tmp_path: Path) -> None:
    """As serve does."""
    with pytest.raises(CheckpointError, match=r"lacks config\.json"):
        compared(tmp_path, record("openvla"))
