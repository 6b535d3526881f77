"""Which reader knows which family's goldens: a table from a family's name to a module, imported on use.

Knows names; a reader is what walks a policy through the cases of its layout.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any, Protocol, cast

from stillframe.models.base import PolicyModel
from stillframe_lab.parity.golden import Golden
from stillframe_lab.parity.ledger import Ledger, Stage

Opener = Callable[
    [Mapping[str, Any]], PolicyModel
]  # keys in place of config.json's -> the checkpoint, loaded with them

READERS = {
    "openvla": "stillframe_lab.parity.openvla:OpenVLAReader",
    "openvla_oft": "stillframe_lab.parity.openvla_oft:OFTReader",
    "cogact": "stillframe_lab.parity.cogact:CogACTReader",
    "pi0": "stillframe_lab.parity.pi0:Pi0Reader",
    "pi05": "stillframe_lab.parity.pi0:Pi05Reader",
}


class Reader(Protocol):
    """One family's layout of keys."""

    @property
    def stages(self) -> Sequence[Stage]:
        """In the order in which a frame goes through them, with what its README allows in float32."""
        ...

    @property
    def passed_over(self) -> Sequence[re.Pattern[str]]:
        """Keys that it knows and does not compare."""
        ...

    def recognises(self, golden: Golden) -> bool:
        """Whether the file is in this layout."""
        ...

    def compare(self, golden: Golden, open_policy: Opener, ledger: Ledger) -> None:
        """Walk through every case; under inference_mode."""
        ...


def reader_of(family: str) -> Reader | None:
    """None: nothing here knows its goldens."""
    place = READERS.get(family)
    if place is None:
        return None
    module, _, name = place.partition(":")
    return cast("Reader", getattr(import_module(module), name)())


def families_of(golden: Golden) -> list[str]:
    """Those whose layout the file is in."""
    return [family for family in READERS if (reader := reader_of(family)) and reader.recognises(golden)]
