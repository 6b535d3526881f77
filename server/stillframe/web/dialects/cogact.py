"""CogACT's clients: a form with a picture and the words of the task. Source: microsoft/CogACT scripts/deploy.py.

Knows no HTTP; the codec has parsed the form.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from stillframe.domain import PolicyInfo
from stillframe.errors import BadRequest
from stillframe.web.dialects.base import NativeFrame, Reply, finite
from stillframe.web.dialects.cameras import assign_cameras
from stillframe.web.http.parsing import Fields

PICTURE, WORDS = "images", "task_description"


@dataclass(frozen=True)
class CogACT:
    """Parts `images` (one JPEG or PNG) and `json` ({"task_description": ...}), which may hold `state` as well."""

    name: str = "cogact"

    def translate(self, fields: Fields, info: PolicyInfo) -> NativeFrame:
        """One picture, for a policy with one camera."""
        if PICTURE not in fields:
            raise BadRequest("missing-field", f"The form has no part {PICTURE!r}: a JPEG or PNG.", pointer="/images")
        rest = {key: value for key, value in fields.items() if key not in (PICTURE, WORDS)}
        said = assign_cameras({PICTURE: fields[PICTURE]}, rest, info)
        words = {"instruction": fields[WORDS]} if WORDS in fields else {}
        if not words and info.default_instruction is None:
            detail = f"The part 'json' has no {WORDS!r}: what the robot is to do."
            raise BadRequest("missing-field", detail, pointer=f"/json/{WORDS}")
        pointers = {**said.pointers, "/instruction": f"/json/{WORDS}", "/state": "/json/state"}
        return NativeFrame({**said.fields, **words}, pointers, said.keys)

    def write(self, answer: Reply) -> Any:
        """The numbers of the one action, or a row for each of several."""
        rows: list[list[float]] = finite(answer.chunk).actions.tolist()
        return rows[0] if len(rows) == 1 else rows


COGACT = CogACT()
