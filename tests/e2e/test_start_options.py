"""What other servers take as start options, in a real daemon: statistics, cameras and crop of a port."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import yaml
from numpy.typing import NDArray

from stillframe.errors import StillframeError
from stillframe.models.crop import cropped
from stillframe.tools.local_daemon import daemon
from stillframe_client.wire import decode_array, encode_array

ROOT = Path(__file__).resolve().parents[2]
WAIT_S = 120.0
WORDS = "pick up the red cube"
KNOWN, DOUBLED = "jaco_sim", "jaco_doubled"  # statistics: of the checkpoint; of a data set with steps twice as long


@dataclass(frozen=True)
class Lab:
    """A daemon by its ports' URLs."""

    plain: str
    oft: str  # OpenVLA-OFT's clients, whose statistics are fixed
    cropping: str  # the middle 0.9 of the area
    low: str  # openpi's clients, whose camera is another than names say


@pytest.fixture(scope="module")
def lab(serving: Any, tmp_path_factory: pytest.TempPathFactory, new_port: Callable[[], int]) -> Iterator[Lab]:
    """Serves a copy of the checkpoint that knows two data sets."""
    folder = tmp_path_factory.mktemp("options")
    checkpoint = folder / "jaco"
    shutil.copytree(ROOT / "checkpoints" / "jaco-tiny", checkpoint)
    statistics = json.loads((checkpoint / "dataset_statistics.json").read_text())
    longer = json.loads(json.dumps(statistics[KNOWN]))
    for name in ("q01", "q99"):
        longer["action"][name] = [2 * number for number in longer["action"][name]]
    (checkpoint / "dataset_statistics.json").write_text(json.dumps({**statistics, DOUBLED: longer}))
    oft, cropping, low = (new_port() for _ in range(3))
    config = {
        "checkpoint": str(checkpoint),
        "device": "cpu",
        "dtype": "float32",
        "threads": 1,
        "frames_per_s": None,
        "reuse": {"mode": "off", "slack": False},
        "listeners": [
            {"port": oft, "profile": "openvla-oft", "unnorm_key": DOUBLED},
            {"port": cropping, "unnorm_key": KNOWN, "center_crop": 0.9},
            {"port": low, "profile": "openpi", "unnorm_key": KNOWN, "cameras": {"image": "images/cam_low"}},
        ],
    }
    file = folder / "daemon.yaml"
    file.write_text(yaml.safe_dump(config))
    with serving([str(file)], new_port()) as url:
        yield Lab(url, *(f"http://127.0.0.1:{port}" for port in (oft, cropping, low)))


def posted(url: str, body: dict[str, Any]) -> httpx.Response:
    """Answered."""
    return httpx.post(f"{url}/act", json=body, timeout=WAIT_S)


def native(lab: Lab, picture: NDArray[np.uint8], key: str = KNOWN) -> NDArray[np.float64]:
    """The action that the plain port gives for a frame that says all."""
    reply = posted(lab.plain, {"image": encode_array(picture), "instruction": WORDS, "unnorm_key": key})
    assert reply.status_code == 200, reply.text
    return decode_array(reply.json())


def test_a_client_that_cannot_name_its_statistics_gets_those_of_its_port(lab: Lab, scenes: Any) -> None:
    """Where nothing is fixed it is told the choices; where they are, its steps are as long as they say."""
    picture = scenes["left"][0]
    body = {"full_image": encode_array(picture), "state": encode_array(np.zeros(8)), "instruction": WORDS}
    refused, answered = posted(lab.plain, body), posted(lab.oft, body)
    known = native(lab, picture)

    assert refused.json()["code"] == "unknown-unnorm-key"
    assert KNOWN in refused.json()["detail"]
    assert answered.status_code == 200
    np.testing.assert_array_equal(decode_array(answered.json()[0]), native(lab, picture, DOUBLED))
    np.testing.assert_allclose(decode_array(answered.json()[0])[:6], 2 * known[:6], rtol=1e-12)


def test_a_port_that_crops_sees_the_middle(lab: Lab, scenes: Any) -> None:
    """The same action as for the middle itself, sent at the policy's size to a port that does not."""
    picture = scenes["left"][0]
    reply = posted(lab.cropping, {"image": encode_array(picture), "instruction": WORDS})
    middle = native(lab, cropped(picture, 0.9, (224, 224)))

    np.testing.assert_array_equal(decode_array(reply.json()), middle)
    assert not np.array_equal(middle, native(lab, picture))


def test_openpis_unmodified_client_looks_where_its_port_does(
    lab: Lab, scenes: Any, connect: Callable[..., Any]
) -> None:
    """ALOHA's observation has four cameras; the low one sees the picture upside down."""
    picture = scenes["left"][0]
    reply = connect("openpi-client-0.1.2", "openpi", lab.low)("left", "act", picture, WORDS, "aloha")

    np.testing.assert_array_equal(reply["actions"][0], native(lab, picture[::-1]).astype(np.float32))


def test_each_port_says_what_is_fixed(lab: Lab) -> None:
    """In /v1/models."""
    cards = [httpx.get(f"{url}/v1/models", timeout=WAIT_S).json()["models"][0] for url in vars(lab).values()]

    assert [card["default_unnorm_key"] for card in cards] == [None, DOUBLED, KNOWN, KNOWN]
    assert [card["profile"] for card in cards] == ["native", "openvla-oft", "native", "openpi"]
    assert [card["observation"]["center_crop"] for card in cards] == [None, None, 0.9, None]
    assert [card["observation"]["camera_keys"] for card in cards] == [{}, {}, {}, {"image": "images/cam_low"}]


@pytest.mark.slow
def test_statistics_that_there_are_not_end_the_start(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], new_port: Callable[[], int]
) -> None:
    """Before a frame is taken, with those that there are."""
    file = tmp_path / "daemon.yaml"
    file.write_text(
        yaml.safe_dump({"checkpoint": str(ROOT / "checkpoints" / "jaco-tiny"), "device": "cpu", "unnorm_key": "x"})
    )
    with pytest.raises(StillframeError, match="ended with status 1"), daemon([str(file)], new_port()):
        pass

    assert "unnorm_key is 'x'; jaco-tiny has statistics for jaco_sim" in capfd.readouterr().err
