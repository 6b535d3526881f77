from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stillframe.daemon import serve
from stillframe.daemon.config import load_config
from stillframe.domain import Observation
from stillframe.errors import CheckpointError
from stillframe.models.pi0.model import Pi0
from stillframe.web.dialects.native import JSON_NATIVE
from stillframe.web.dialects.openpi import OPENPI, ROBOARENA
from stillframe.web.http.limits import Limits
from stillframe.web.http.session_fields import RequestAddress
from stillframe.web.service.frame_parser import FrameParser

FolderOf = Callable[[str], Path]
Load = Callable[..., Pi0]
BASE, LEFT, RIGHT = "base_0_rgb", "left_wrist_0_rgb", "right_wrist_0_rgb"
FRONT, HAND = (np.full((224, 224, 3), grey, np.uint8) for grey in (10, 20))
STATE = np.zeros(8)


@pytest.mark.parametrize(
    ("said", "cameras"),
    [
        ({BASE: "front"}, ("front",)),
        ({LEFT: "d405", BASE: "front"}, ("front", "d405")),
        ({RIGHT: "right hand", LEFT: "left hand", BASE: BASE}, (BASE, "left hand", "right hand")),
        ({RIGHT: "wrist"}, ("wrist",)),
        ([LEFT, BASE], (BASE, LEFT)),
    ],
)
def test_a_slot_is_called_what_the_robot_calls_its_camera(
    folder_of: FolderOf, load: Load, said: Any, cameras: tuple[str, ...]
) -> None:
    """In the order of the slots, whatever that of the mapping; the contract and the prefix speak the robot's names."""
    policy = load(folder_of("pi0-micro"), cameras=said)
    prepared = policy.prepare(Observation(dict.fromkeys(cameras, FRONT), "lift", state=STATE))

    assert policy.info.cameras == policy.config.cameras == cameras
    assert policy.info.camera_slots == (
        {} if isinstance(said, list) else {name: slot for slot, name in said.items() if name != slot}
    )
    assert list(prepared.layout.patches.items()) == [
        (camera, range(at * 256, at * 256 + 256)) for at, camera in enumerate(cameras)
    ]


def test_lerobots_features_are_slots_as_well(folder_of: FolderOf, load: Load) -> None:
    """Its own names for pictures, given the robot's; openpi's slots are not among them."""
    folder = folder_of("pi0-micro-lerobot")
    own = load(folder).info.cameras
    policy = load(folder, cameras={own[1]: "hand", own[0]: "mast"})

    assert policy.info.cameras == ("mast", "hand")
    assert policy.info.camera_slots == {"mast": own[0], "hand": own[1]}
    with pytest.raises(CheckpointError, match=f"expected one or more of {', '.join(own)}"):
        load(folder, cameras={"image": "front"})


@pytest.mark.parametrize(
    ("said", "what"),
    [
        ({"base_rgb": "front"}, f"expected one or more of {BASE}, {LEFT}, {RIGHT}. Did you mean 'base_0_rgb'?"),
        ({"front": BASE}, f"expected one or more of {BASE}, {LEFT}, {RIGHT}"),
        ({BASE: "front", LEFT: "front"}, "expected 'front' once"),
        ([BASE, BASE], "expected 'base_0_rgb' once"),
        ({BASE: LEFT}, f"'{LEFT}' is a slot of its own: expected the robot's name for the camera in '{BASE}'"),
        ({BASE: LEFT, LEFT: BASE}, "is a slot of its own"),
        ({BASE: 0}, "expected one or more of"),
        ({BASE: ""}, "each with the robot's name for its camera"),
        ({BASE: None}, "each with the robot's name for its camera"),
        ({BASE: ["front"]}, "each with the robot's name for its camera"),
        ({0: "front"}, "each with the robot's name for its camera"),
        ({}, "each with the robot's name for its camera"),
        ([], "expected one or more of"),
        ([["front"]], "expected one or more of"),
        ("front", "expected one or more of"),
        (None, "expected one or more of"),
    ],
    ids=str,
)
def test_cameras_that_fit_no_slot_are_refused(
    folder_of: FolderOf, load: Load, edit: Callable[..., None], said: Any, what: str
) -> None:
    """Unknown slots with the nearest, doubles, what is no word, a name that is another slot's: also in config.json."""
    folder = folder_of("pi0-micro")
    for keys in ({"cameras": said}, {}):
        if not keys:
            edit(folder / "config.json", lambda config: config.update(cameras=said))
        with pytest.raises(CheckpointError) as caught:
            load(folder, **keys)
        assert "config.json: cameras is " in str(caught.value)
        if 0 not in (said if isinstance(said, dict) else ()) or keys:  # JSON's keys are words
            assert what in str(caught.value)


def test_clients_are_understood_by_every_name_of_a_camera(folder_of: FolderOf, load: Load) -> None:
    """The robot's name, the slot's, and what openpi's LIBERO, DROID and ALOHA clients send."""
    info = load(folder_of("pi0-micro"), cameras={BASE: "mast", LEFT: "d405"}).info
    parser = FrameParser(info, Limits())
    openpi = [
        {"mast": FRONT, "d405": HAND},
        {BASE: FRONT, LEFT: HAND},
        {"observation/wrist_image": HAND, "observation/image": FRONT},
        {"observation/exterior_image_1_left": FRONT, "observation/wrist_image_left": HAND},
        {"images": {"cam_high": FRONT, "cam_low": HAND + 1, "cam_left_wrist": HAND, "cam_right_wrist": HAND + 2}},
        {f"image/{BASE}": FRONT, f"image/{LEFT}": HAND},
    ]
    native = [{"images": {"mast": FRONT, "d405": HAND}}, {"images": {LEFT: HAND, BASE: FRONT}}]
    sent = [(OPENPI, {**pictures, "prompt": "lift"}) for pictures in openpi]
    sent += [(JSON_NATIVE, {**pictures, "instruction": "lift"}) for pictures in native]
    seen = [
        parser.parse({**fields, "state": STATE}, dialect, RequestAddress()).observation.images
        for dialect, fields in sent
    ]

    for images in seen:
        assert {camera: int(picture.max()) for camera, picture in images.items()} == {"mast": 10, "d405": 20}
    assert OPENPI.metadata(info)["cameras"] == ["mast", "d405"]
    assert ROBOARENA.metadata(info)["needs_wrist_camera"] is True


def test_a_deployment_names_the_cameras(tmp_path: Path, folder_of: FolderOf) -> None:
    """The daemon's YAML, `checkpoint_config`: a mapping, as in config.json."""
    file = tmp_path / "pi0.yaml"
    text = f"checkpoint: {folder_of('pi0-micro')}\ndevice: cpu\ndtype: float32\ncheckpoint_config:\n  cameras: "
    file.write_text(f"{text}{{{BASE}: front, {LEFT}: wrist}}\n")
    info = serve.open_model(load_config(file, {})).info
    file.write_text(f"{text}{{base_rgb: front}}\n")

    assert (info.cameras, info.camera_slots) == (("front", "wrist"), {"front": BASE, "wrist": LEFT})
    with pytest.raises(CheckpointError, match="Did you mean 'base_0_rgb'"):
        serve.open_model(load_config(file, {}))


@pytest.mark.parametrize(("crop", "padded"), [(None, True), (0.9, False)])
def test_a_view_is_padded_unless_it_is_cropped(
    folder_of: FolderOf, load: Load, crop: float | None, *, padded: bool
) -> None:
    """So that patches are drawn where they are in the picture."""
    policy = load(folder_of("pi0-micro"))
    pictures = dict.fromkeys(policy.info.cameras, FRONT)

    assert policy.prepare(Observation(pictures, "lift", None, crop, STATE)).padded_views is padded
