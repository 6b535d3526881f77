"""Lets coverage lead a fuzzer through one door: `climb.py DOOR FOLDER PATHS -runs=N ...`, where atheris is.

Knows atheris; the doors are `doors.py` beside it. PATHS, joined like $PATH, are where our packages and theirs lie.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

import atheris

INSTRUMENTED = ["stillframe", "stillframe_client", "python_multipart"]


def doors() -> ModuleType:
    """The doors, with what they import made to tell where it has been."""
    spec = importlib.util.spec_from_file_location("doors", Path(__file__).parent / "doors.py")
    assert spec is not None
    assert spec.loader is not None
    sys.modules["doors"] = module = importlib.util.module_from_spec(spec)
    with atheris.instrument_imports(include=INSTRUMENTED):
        spec.loader.exec_module(module)
    return module


def main() -> None:
    """Fuzz until the runs are over; whatever comes out that is no RequestError ends the process with a status."""
    name, folder, paths, *options = sys.argv[1:]
    sys.path.extend(paths.split(os.pathsep))
    module = doors()
    door = module.DOORS[name]
    for number, good in enumerate(door.good):
        (Path(folder) / f"good-{number}").write_bytes(good)

    def enter(data: bytes) -> None:
        with contextlib.suppress(module.RequestError):
            door.enter(data)

    atheris.Setup([sys.argv[0], *options, folder], enter)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
