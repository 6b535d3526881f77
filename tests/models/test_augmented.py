from __future__ import annotations

import json
from pathlib import Path

import pytest

from stillframe.models.augmented import augmented


@pytest.mark.parametrize(
    "name",
    [
        "openvla-7b+libero_spatial_no_noops+b16+lr-0.0005+lora-r32+dropout-0.0--image_aug",
        "run--image_aug/checkpoints",
        "run--image_aug--5000_chkpt",
    ],
)
def test_a_run_id_says_so(tmp_path: Path, name: str) -> None:
    """As OpenVLA's fine-tuning names its folders, above the weights or itself; linked under another name, too."""
    folder = tmp_path / name
    folder.mkdir(parents=True)
    link = tmp_path / "latest"
    link.symlink_to(folder)

    assert "image_aug" in (augmented(folder) or "")
    assert "image_aug" in (augmented(link) or "")


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"image_aug": True}, "'image_aug': True"),
        ({"_name_or_path": "me/openvla--image_aug"}, "'_name_or_path': 'me/openvla--image_aug'"),
        ({"training": {"image_aug": True}}, "'image_aug': True"),
        ({"image_aug": False, "model_type": "openvla", "training": [1]}, None),
        (["image_aug"], None),
    ],
)
def test_config_json_says_so(tmp_path: Path, config: object, said: str | None) -> None:
    """A switch that is on, or the run's name."""
    folder = tmp_path / "plain" / "a" / "b"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    found = augmented(folder)

    assert found is None if said is None else said in (found or "")


def test_a_folder_without_a_config_says_nothing(tmp_path: Path) -> None:
    """What is wrong with it is another room's to say."""
    folder = tmp_path / "plain" / "a" / "b"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{")

    assert augmented(folder) is None
    assert augmented(folder / "nowhere" / "at" / "all") is None
