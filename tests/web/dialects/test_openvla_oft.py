from __future__ import annotations

from dataclasses import replace

import numpy as np

from stillframe.domain import ActionChunk
from stillframe.web.dialects.base import Reply
from stillframe.web.dialects.openvla_oft import OPENVLA_OFT
from stillframe_client.wire import decode_array


def test_every_action_of_a_chunk_goes_out():
    """A vector each, in their order, to the last bit."""
    actions = np.random.default_rng(0).normal(size=(3, 7))
    written = OPENVLA_OFT.write(Reply(ActionChunk(actions, "jaco"), "echo", {}, {}))

    assert [decode_array(part).tobytes() for part in written] == [action.tobytes() for action in actions]


def test_whatever_is_called_a_wrist_is_a_picture(desk):
    """Beside the full image; all else is said as it is."""
    info = replace(desk.policy.info, cameras=("front", "wrist"))
    fields = {"full_image": 1, "left_wrist_image": 2, "right_wrist_image": 3, "state": [0.0], "instruction": "go"}
    said = OPENVLA_OFT.translate(fields, info)

    assert said.fields == {"state": [0.0], "instruction": "go", "images": {"front": 1, "wrist": 2}}
    assert said.pointers == {"/images/front": "/full_image", "/images/wrist": "/left_wrist_image"}
