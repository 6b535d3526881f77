"""Whether a checkpoint's folder names image augmentation: fine-tuning on randomly cropped images.

Knows how OpenVLA's fine-tuning names it (a run id that ends in --image_aug); loads nothing but config.json.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

WORD = "image_aug"
_NEAR = 3  # names of the path, from the checkpoint's own upwards, of which one may be the run's


def augmented(folder: Path) -> str | None:
    """Where it is named, for the log; None: nowhere."""
    for name in (*folder.parts[-_NEAR:], *folder.resolve().parts[-_NEAR:]):
        if WORD in name:
            return f"the folder is called {name!r}"
    try:
        config = json.loads((folder / "config.json").read_bytes())
    except (OSError, ValueError, RecursionError):  # loading reports it better
        return None
    return next(_signs(config), None)


def _signs(config: Any) -> Iterator[str]:
    """Members of config.json that name it, at the top and one level below."""
    if not isinstance(config, dict):
        return
    for members in (config, *(inner for inner in config.values() if isinstance(inner, dict))):
        for key, value in members.items():
            if (key == WORD and value is True) or (isinstance(value, str) and WORD in value):
                yield f"config.json has {key!r}: {value!r}"
