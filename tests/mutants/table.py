"""The table of mutants: small wrong changes to source files, each of which the tests of its own room must notice.

Knows the TOML files beside it, a room each; runs nothing.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


@dataclass(frozen=True)
class Mutant:
    """A change to one source file. `equal` says why no test can tell it from the original; empty where one must."""

    room: str
    path: str  # of the source file, from the repository's root
    what: str  # what the changed code does wrong, in a few words
    old: str  # stands in the file exactly once
    new: str
    by: str = ""  # a test that fails, from the repository's root: tried first, nothing but time depends on it
    equal: str = ""

    def applied(self, text: str) -> str:
        """Return the file's text with the change made. ValueError where `old` does not stand in it exactly once."""
        if (count := text.count(self.old)) != 1:
            raise ValueError(f"{self.path}: {self.what!r}: `old` stands there {count} times, once was expected")
        return text.replace(self.old, self.new)


@dataclass(frozen=True)
class Room:
    """A folder of sources, the tests that are its own, and the mutants made in it."""

    name: str
    tests: tuple[str, ...]  # test files, from the repository's root, in the order of the folders
    mutants: tuple[Mutant, ...]

    def tests_for(self, mutant: Mutant) -> list[str]:
        """Return all test files of the room, those that carry the source file's name first."""
        stem = Path(mutant.path).stem
        return sorted(self.tests, key=lambda test: stem not in Path(test).stem)


def names() -> list[str]:
    """Return every room that has a table."""
    return sorted(file.stem for file in HERE.glob("*.toml"))


def read(name: str) -> Room:
    """Read the table of one room."""
    with (HERE / f"{name}.toml").open("rb") as file:
        said = tomllib.load(file)
    found = [path for pattern in said["tests"] for path in sorted(ROOT.glob(pattern))]
    tests = tuple(dict.fromkeys(str(path.relative_to(ROOT)) for path in found))
    made = (Mutant(name, f"{said['sources']}/{entry.pop('file')}", **entry) for entry in said["mutant"])
    return Room(name, tests, tuple(made))
