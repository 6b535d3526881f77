from __future__ import annotations

import numpy as np
import pytest

from stillframe.domain import ActionChunk
from stillframe.errors import BadRequest
from stillframe.web.dialects.base import Reply
from stillframe.web.dialects.cogact import COGACT


@pytest.mark.parametrize(
    ("fields", "place"),
    [({"task_description": "go"}, "/images"), ({"images": b"x"}, "/json/task_description"), ({}, "/images")],
)
def test_what_is_missing_is_named_in_its_clients_words(desk, fields, place):
    """A form holds a picture and words, or it is no frame: there is no session whose last words could stand in."""
    with pytest.raises(BadRequest) as caught:
        COGACT.translate(fields, desk.policy.info)

    assert (caught.value.code, caught.value.pointer) == ("missing-field", place)


def test_a_form_over_the_wire(desk):
    """The client's problem, not ours, where a part is missing."""
    replies = [desk.ask("POST", "/api/inference", files={name: b"{}"}) for name in ("json", "images")]

    assert [(reply.status_code, reply.json()["code"]) for reply in replies] == [(400, "missing-field")] * 2


def test_one_action_is_numbers_and_several_are_rows():
    """As its own server answers."""
    actions = np.arange(14.0).reshape(2, 7) / 3
    one, two = (COGACT.write(Reply(ActionChunk(rows, "jaco"), "echo", {}, {})) for rows in (actions[:1], actions))

    assert one == actions[0].tolist()
    assert two == actions.tolist()
