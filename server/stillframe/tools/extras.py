"""Check that optional dependencies are installed, and say how to install them.

Knows names only: it looks for packages and imports none.
"""

from __future__ import annotations

from importlib.util import find_spec

from stillframe.errors import ConfigError

PACKAGES = {
    "sim": ("mujoco", "dm_control"),
    "charts": ("matplotlib",),
    "export-rerun": ("rerun",),
    "export-mcap": ("mcap",),
    "export-video": ("av",),
    "export-lerobot": ("pyarrow", "av"),
    "bench": ("transformers",),
}  # extra -> its packages
LAB_EXTRAS = {"bench"}  # in lab/pyproject.toml; the others are in ours


def require_extras(*extras: str) -> None:
    """Raise ConfigError, with the pip command to run, unless the packages of each of `extras` are installed."""
    for extra in extras:
        missing = [name for name in PACKAGES[extra] if find_spec(name) is None]
        if missing:
            absent = " and ".join(missing)
            package = "stillframe-lab" if extra in LAB_EXTRAS else "stillframe"
            raise ConfigError(f"this command needs {absent}, not installed here; run: pip install '{package}[{extra}]'")
