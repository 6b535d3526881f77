"""The class in the shape of openpi's client, as programs written for that one use it."""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
import pytest

from stillframe_client import TimedOut, WebsocketClientPolicy
from stillframe_client.openpi import _address, as_picture, pictures_of, words_of
from stillframe_client.replies import model_info

CARD = {
    "name": "sums",
    "family": "openvla",
    "observation": {"cameras": ["front", "wrist"], "image_size": [224, 224]},
    "action": {"fields": [{"name": "dx"}, {"name": "gripper"}], "gripper": "1 = open, 0 = closed", "chunk_horizon": 2},
    "norm_stats": {"jaco": {}},
    "default_unnorm_key": "jaco",
}
INFO = model_info(CARD)


def plain(peer):
    """Answer two frames round a reset."""
    peer.greet()
    frame = peer.hear("frame")
    peer.act({**frame, "image": 0}, value=1.0, timing_ms={"queue": 0.5, "total": 2.5})
    peer.say("reset", session_id=peer.hear("reset")["session_id"], epoch=1)
    peer.act({**peer.hear("frame"), "image": 0}, value=2.0)
    peer.farewell()


def test_a_program_of_openpis(scripted, picture):
    """Metadata, observations, answers and reset as openpi's programs have them; LIBERO's keys find their cameras."""
    daemon = scripted(plain)
    host, port = daemon.url.removeprefix("http://").split(":")
    policy = WebsocketClientPolicy(host=host, port=int(port), api_key="k3y", timeout_s=20)
    obs = {
        "observation/image": picture,
        "observation/wrist_image": picture[::-1],
        "observation/state": np.zeros(8),
        "prompt": "pick up the red cube",
    }
    answer = policy.infer(obs)
    policy.reset()
    policy.infer({**obs, "max_age_ms": 15_000})
    policy.close()

    assert policy.get_server_metadata()["cameras"] == ["front", "wrist"]
    assert answer["actions"].dtype == np.float32
    assert answer["actions"].tolist() == [[1.0, 0.0], [-1.0, 0.0]]
    assert answer["policy_timing"] == {"infer_ms": 2.0}
    assert answer["server_timing"] == {"infer_ms": 2.5}
    first, second = daemon.frames
    assert first["instruction"] == "pick up the red cube"
    assert np.array_equal(first["images"]["front"], picture)
    assert np.array_equal(first["images"]["wrist"], picture[::-1])
    assert (second["epoch"], second["max_age_ms"]) == (1, 15_000)
    assert daemon.upgrades[0].headers["Authorization"] == "Bearer k3y"


def test_what_a_deployment_says_for_openpis_programs(scripted, picture):
    """Words for observations that have none, and members of the metadata; what an observation says goes before."""

    def with_defaults(peer):
        peer.greet(model={**CARD, "default_instruction": "uncap it", "openpi_metadata": {"reset_pose": [0, -1.5]}})
        peer.act({**peer.hear("frame"), "image": 0}, value=1.0)
        peer.act({**peer.hear("frame"), "image": 0}, value=1.0)
        peer.farewell()

    daemon = scripted(with_defaults)
    obs = {"images": {"cam_high": picture.transpose(2, 0, 1), "cam_left_wrist": picture.transpose(2, 0, 1)}}
    with WebsocketClientPolicy(daemon.url.replace("http", "ws"), timeout_s=20) as policy:
        metadata = policy.get_server_metadata()
        policy.infer(obs)
        policy.infer({**obs, "prompt": "cap it"})

    assert (metadata["reset_pose"], metadata["policy"]) == ([0, -1.5], "sums")
    assert [frame["instruction"] for frame in daemon.frames] == ["uncap it", "cap it"]


def test_an_unreachable_daemon_is_an_error():
    """Unlike the original it does not wait for ever, and leaves nothing running."""
    before = set(threading.enumerate())
    with pytest.raises(TimedOut, match="Nothing answers"):
        WebsocketClientPolicy(port=1, wait_s=0.2)

    assert set(threading.enumerate()) <= before


GREY = np.full((8, 8, 3), 128, np.uint8)


@pytest.mark.parametrize(
    ("keys", "cameras"),
    [
        (["observation/image", "observation/wrist_image"], ["front", "wrist"]),
        (["observation/wrist_image", "observation/image"], ["front", "wrist"]),
        (["observation/exterior_image_1_left", "observation/wrist_image_left"], ["front", "wrist"]),
        (["wrist", "front"], ["front", "wrist"]),
        (["front_image", "left_wrist"], ["front", "wrist"]),
        (["observation/image"], ["front"]),
        (["a", "b", "c"], ["front"]),
    ],
    ids=str,
)
def test_whose_picture_it_is(keys, cameras):
    """By name, wrist to wrist, the others in order; what no camera is left for is not sent."""
    pictures = pictures_of({key: GREY + ("wrist" in key) for key in keys}, INFO)

    assert list(pictures) == cameras
    assert all(pictures[camera].max() == 128 + (camera == "wrist") for camera in cameras)


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        (["a", "b"], {"front": "a", "side": "b"}),
        (["a", "side", "b"], {"front": "a", "side": "side"}),
        (["b", "my_wrist", "front"], {"front": "front", "side": "b", "wrist": "my_wrist"}),
        (["a"], {"front": "a"}),
        (["wrist_left", "wrist_right"], {"wrist": "wrist_left"}),
    ],
    ids=str,
)
def test_each_picture_is_one_cameras(keys, expected):
    """Cameras without a picture of their name take what is left, each in its turn, in the policy's order."""
    info = replace(INFO, cameras=("front", "side", "wrist"))
    pictures = pictures_of({key: GREY + n for n, key in enumerate(keys)}, info)

    assert {camera: keys[int(picture.max()) - 128] for camera, picture in pictures.items()} == expected
    assert list(pictures) == [camera for camera in info.cameras if camera in expected]


@pytest.mark.parametrize(
    "keys", [["observation/wrist_image", "observation/image"], ["left_wrist_0_rgb", "base_0_rgb"], ["d405", "mast"]]
)
def test_names_of_the_checkpoints(keys):
    """A camera whose name says nothing is found by the checkpoint's name for it."""
    info = replace(INFO, cameras=("mast", "d405"), camera_slots={"mast": "base_0_rgb", "d405": "left_wrist_0_rgb"})
    pictures = pictures_of({key: GREY + n for n, key in enumerate(keys)}, info)
    alone = replace(info, cameras=("d405",))

    assert {camera: int(picture.max()) - 128 for camera, picture in pictures.items()} == {"mast": 1, "d405": 0}
    assert list(pictures_of({keys[1]: GREY, keys[0]: GREY + 1}, alone)["d405"].ravel()[:1]) == [129]


def test_nested_pictures():
    """ALOHA's programs nest them, channels first."""
    chw = np.zeros((3, 8, 16), np.uint8)
    pictures = pictures_of({"images": {"cam_high": chw, "cam_left_wrist": chw}, "state": np.zeros(14)}, INFO)

    assert {name: picture.shape for name, picture in pictures.items()} == {"front": (8, 16, 3), "wrist": (8, 16, 3)}


def test_three_rows_are_rows():
    """A picture whose channels come last is left as it is, however low it is; only channels first are moved."""
    picture = np.arange(3 * 5 * 3, dtype=np.uint8).reshape(3, 5, 3)
    channels_first = np.arange(3 * 4 * 5, dtype=np.uint8).reshape(3, 4, 5)

    assert np.array_equal(as_picture(picture), picture)
    assert np.array_equal(as_picture(channels_first), np.moveaxis(channels_first, 0, -1))


def test_pictures_of_floats():
    """From 0 to 1, rounding errors included."""
    picture = as_picture(np.array([[[0.0, 0.5, 1.0], [-1e-6, 1 + 1e-6, 0.25]]], np.float64))

    assert picture.dtype == np.uint8
    assert picture.tolist() == [[[0, 127, 255], [0, 255, 63]]]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (0, 255, r"float\d\d from 0 to 255; expected uint8, or floats from 0 to 1"),
        (-1, 1, r"from -1 to 1; expected uint8, or floats from 0 to 1"),
        (0, 1.01, r"from 0 to 1\.0"),
        (-0.01, 1, r"from -0\.01\d* to 1;"),
        (0, np.nan, "NaN or infinity"),
        (-np.inf, 0, "NaN or infinity"),
    ],
)
def test_floats_that_are_no_picture(dtype, low, high, words):
    """Clipped they would be another picture: the range that was found is told, the key too, and what was expected."""
    picture = np.zeros((4, 5, 3), dtype)
    picture[0, 0, 0], picture[1, 1, 1] = low, high
    with pytest.raises(ValueError, match=words):
        pictures_of({"observation/image": picture}, INFO)
    with pytest.raises(ValueError, match=r"^observation/image (has|holds) "):
        pictures_of({"observation/image": picture}, INFO)


def test_a_batch_of_one():
    """It is that picture; a batch of more is none, and the text says which arrays there were."""
    assert pictures_of({"image": GREY[None]}, INFO)["front"].shape == (8, 8, 3)
    with pytest.raises(ValueError, match=r"no picture.*image \(2, 8, 8, 3\)"):
        pictures_of({"image": np.stack([GREY, GREY])}, INFO)


@pytest.mark.parametrize("hand", ["robot0_eye_in_hand_image", "gripper_rgb", "hand", "wrist_image"])
@pytest.mark.parametrize("first", [True, False])
def test_a_hand_camera_is_no_scene_camera(hand, first):
    """LIBERO's own names, in either order: what sits on the hand goes to the wrist's camera."""
    keys = [hand, "agentview_image"] if first else ["agentview_image", hand]
    pictures = pictures_of({key: GREY + (key == hand) for key in keys}, INFO)

    assert {camera: int(picture.max()) for camera, picture in pictures.items()} == {"front": 128, "wrist": 129}


@pytest.mark.parametrize("words", ["reach", np.str_("reach"), np.array("reach"), np.array(["reach"])])
def test_words_of_numpy(words):
    """Text is text, also in an array of one."""
    assert (words_of({"prompt": words}), type(words_of({"prompt": words}))) == ("reach", str)


@pytest.mark.parametrize(
    ("words", "told"),
    [(b"reach", "bytes.*decode"), (7, "int"), (np.array(["a", "b"]), "ndarray"), ("\ud800", "surrogate")],
)
def test_words_that_are_none(words, told):
    """What is no text is told under its key."""
    with pytest.raises(ValueError, match=rf"obs\['prompt'\].*{told}"):
        words_of({"prompt": words})


@pytest.mark.parametrize(
    "obs",
    [
        {},
        {"prompt": "x", "observation/state": np.zeros(8)},
        {"image": np.zeros((8, 8))},
        {"state": {"image": GREY}},
        {"images": [GREY]},
    ],
    ids=lambda obs: ",".join(obs),
)
def test_an_observation_without_pictures(obs):
    """It is told what it holds instead."""
    with pytest.raises(ValueError, match="no picture"):
        pictures_of(obs, INFO)


def test_whose_words_count():
    """Openpi's own key comes first, then ours."""
    words = {"task": "c", "instruction": "b", "prompt": "a"}

    assert [words_of(words), words_of({"task": "c", "instruction": "b"}), words_of({"task": "c"})] == ["a", "b", "c"]


@pytest.mark.parametrize("obs", [{}, {"image": GREY}, {"prompt": None}, {"prompt": ["x"]}])
def test_an_observation_without_words(obs):
    """It is told where they belong."""
    with pytest.raises(ValueError, match="'prompt'"):
        words_of(obs)


@pytest.mark.parametrize(
    ("host", "port", "address"),
    [
        ("0.0.0.0", None, "ws://127.0.0.1:8000"),  # noqa: S104 -- openpi's default
        ("robot", 9000, "ws://robot:9000"),
        ("::1", None, "ws://[::1]:8000"),
        ("ws://robot/arm", None, "ws://robot/arm"),
        ("wss://robot/arm", 9000, "wss://robot:9000/arm"),
    ],
)
def test_addresses(host, port, address):
    """A host is a name or an address, as openpi has it."""
    assert _address(host, port) == address


@pytest.mark.parametrize(
    ("host", "port"),
    [(7, None), (None, 8000), (b"robot", None), ("ws://robot:port", 1), ("ws://robot", "x"), ("", None)],
)
def test_what_is_no_host(host, port):
    """It is refused as every argument is."""
    with pytest.raises(ValueError, match="expected"):
        WebsocketClientPolicy(host, port, wait_s=0.1)
