"""Finds the Jaco's model files inside the installed dm_control wheel.

Knows no MuJoCo, and never imports dm_control: its code is not needed, only its third_party/kinova folder.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

NEEDED = ("jaco_arm.xml", "jaco_hand.xml", "common.xml", "meshes_decimated")
INSTALL = "pip install 'stillframe[sim]' or, on a robot, 'stillframe-client[sim]' (Python 3.11 or newer)"


class MissingAssetsError(ImportError):
    """The model files are not installed; the text says how to get them."""


def jaco_folder(package: str = "dm_control") -> Path:
    """Return the folder of jaco_arm.xml and jaco_hand.xml.

    Source: dm_control/third_party/kinova (BSD-3-Clause, Kinova 2017 and dm_control 2018).
    Raises MissingAssetsError when the package or a file is not there.
    """
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise MissingAssetsError(f"the Jaco's model files ship with {package}, which is not installed: {INSTALL}")
    folder = Path(spec.submodule_search_locations[0]) / "third_party" / "kinova"
    absent = [name for name in NEEDED if not (folder / name).exists()]
    if absent:
        raise MissingAssetsError(f"{folder} lacks {', '.join(absent)}: expected dm_control 1.0.50 or newer; {INSTALL}")
    return folder
