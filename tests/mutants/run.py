"""Make every mutant of the table in turn, in a copy of the tree, and ask the tests of its room whether they notice.

    python tests/mutants/run.py [ROOM ...] [--match TEXT] [--jobs 2] [--equal]

Caught: a test fails or cannot be collected, or the tests do not end. Exits 1 where a mutant that is not said to be
equal in effect gets by, where one that is said to be is caught, or where less than 95 % are caught.
Knows processes and pytest; what the mutants are is table.py's.
"""

from __future__ import annotations

import argparse
import ast
import multiprocessing
import os
import queue
import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from table import ROOT, Mutant, Room, names, read

WANTED = 0.95
COPIED = ("server", "client", "lab", "tests", "configs", "docker")  # the rest is linked: nothing in it is changed
HEAVY = ["torch", "pytest", "hypothesis", "numpy", "PIL.Image"]  # imported once, before the processes fork
PYTEST = ["-x", "-q", "--tb=line", "--assert=plain", "-p", "no:cacheprovider", "-m", "not slow and not gpu"]
HUNG = -1000  # below any signal's number
SOME_S = 600.0  # how long a room's tests may take where that was not measured
PATIENCE = 4.0  # times what the room's tests take unchanged
TAIL_BYTES = 4000


@dataclass(frozen=True)
class Verdict:
    """What became of one mutant."""

    mutant: Mutant
    seconds: float
    by: str  # the first test that failed; "hung" or "died" where none could; "" where the mutant got by

    @property
    def caught(self) -> bool:
        """Whether the tests noticed."""
        return self.by != ""


def copied(to: Path) -> Path:
    """Lay a copy of the working tree whose sources and tests can be changed without touching the original."""
    for entry in ROOT.iterdir():
        if entry.name in COPIED:
            shutil.copytree(entry, to / entry.name, symlinks=True)
        elif entry.name not in {".git", ".hypothesis"}:
            (to / entry.name).symlink_to(entry)
    return to


def run_tests(tree: str, args: list[str], output: str) -> None:
    """In a process of its own: run pytest over a copy of the tree. Its exit code is pytest's."""
    os.setsid()  # what the tests start is ended with them
    with Path(output).open("wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.chdir(tree)
    paths = [f"{tree}/server", f"{tree}/client", f"{tree}/lab"]
    sys.path[:0] = paths
    sys.dont_write_bytecode = True  # two mutants of one size and second would share a compiled file
    os.environ |= {
        "PYTHONPATH": os.pathsep.join(paths),
        "PYTHONDONTWRITEBYTECODE": "1",
        "HYPOTHESIS_PROFILE": "mutants",
    }

    import pytest

    code = pytest.main([*args, *PYTEST])
    sys.stdout.flush()
    os._exit(int(code))


def ended(tree: Path, args: list[str], timeout_s: float) -> tuple[int, str]:
    """Run pytest in a fresh process; return its exit code, HUNG past `timeout_s`, and the end of what it printed."""
    output = tree / "pytest.txt"
    process = multiprocessing.get_context("forkserver").Process(target=run_tests, args=(str(tree), args, str(output)))
    process.start()
    process.join(timeout_s)
    code = HUNG if process.exitcode is None else process.exitcode
    if process.pid is not None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    process.join()
    return code, output.read_bytes()[-TAIL_BYTES:].decode(errors="replace") if output.exists() else ""


@contextmanager
def changed(tree: Path, mutant: Mutant) -> Iterator[None]:
    """Make the change in a copy of the tree; put the file back as it was, time stamp included."""
    file = tree / mutant.path
    text, stamp = file.read_text(encoding="utf-8"), file.stat()
    new = mutant.applied(text)
    ast.parse(new)  # what is no program would be caught by anything
    file.write_text(new, encoding="utf-8")
    try:
        yield
    finally:
        file.write_text(text, encoding="utf-8")
        os.utime(file, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))


def failing(output: str) -> str:
    """Return the first test that a run of pytest names as failed, "" where it names none."""
    found = re.search(r"^(?:FAILED|ERROR) (tests/.+?)(?: - .*)?$", output, re.MULTILINE)
    return found[1] if found else ""


def judge(tree: Path, room: Room, mutant: Mutant, timeout_s: float) -> Verdict:
    """Make one mutant and run its room's tests until one fails, the test that is known to catch it first."""
    began = time.monotonic()
    with changed(tree, mutant):
        for args in ([mutant.by], room.tests_for(mutant)) if mutant.by else (room.tests_for(mutant),):
            code, output = ended(tree, args, timeout_s)
            if by := "hung" if code == HUNG else "died" if code < 0 else failing(output):
                return Verdict(mutant, time.monotonic() - began, by)
            if code != 0 and args != [mutant.by]:  # a test that is known no longer is merely out of date
                raise RuntimeError(f"pytest ended with {code} and named no test\n{output}")
    return Verdict(mutant, time.monotonic() - began, "")


def unchanged_s(tree: Path, room: Room) -> float:
    """Return what the room's tests take without any change. SystemExit where they do not pass."""
    began = time.monotonic()
    code, output = ended(tree, list(room.tests), 3600)
    if code != 0:
        raise SystemExit(f"{room.name}: the tests fail without any change; mend that first\n{output}")
    print(f"{room.name}: unchanged, its tests pass in {(seconds := time.monotonic() - began):.0f} s", flush=True)
    return seconds


def verdicts(wanted: Sequence[tuple[Room, Mutant]], unchanged: Sequence[Room], jobs: int) -> Iterator[Verdict]:
    """Judge mutants, `jobs` at a time, each in a copy of the tree; the `unchanged` rooms' tests first."""
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        trees: queue.SimpleQueue[Path] = queue.SimpleQueue()
        for number in range(jobs):
            (place := Path(folder) / str(number)).mkdir()
            trees.put(copied(place))

        def in_a_tree(work, *args):  # type: ignore[no-untyped-def]
            tree = trees.get()
            try:
                return work(tree, *args)
            finally:
                trees.put(tree)

        with ThreadPoolExecutor(jobs) as pool:
            took = dict(zip(unchanged, pool.map(lambda room: in_a_tree(unchanged_s, room), unchanged), strict=True))
            limits = {room: 60 + PATIENCE * seconds for room, seconds in took.items()}
            work = [pool.submit(in_a_tree, judge, room, mutant, limits.get(room, SOME_S)) for room, mutant in wanted]
            yield from (done.result() for done in as_completed(work))


def say(verdict: Verdict) -> None:
    """Print a line for one mutant."""
    mutant = verdict.mutant
    mark = "caught " if verdict.caught else "equal  " if mutant.equal else "SURVIVED"
    where = f"{mutant.path}: {mutant.what}"
    print(f"{mark} {verdict.seconds:5.1f} s  {where}" + (f"  <- {verdict.by}" if verdict.by else ""), flush=True)


def main(words: Sequence[str] | None = None) -> int:
    """Judge what is asked for and print the sum, room by room."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rooms", nargs="*", metavar="ROOM", help=f"of {', '.join(names())}; all, if none is named")
    parser.add_argument("--match", default="", help="only mutants whose file or words hold this text")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--equal", action="store_true", help="also make those that are said to be equal in effect")
    asked = parser.parse_args(words)
    rooms = [read(name) for name in asked.rooms or names()]
    chosen = [(room, m) for room in rooms for m in room.mutants if asked.match in f"{m.path}: {m.what}"]
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is loaded: a core for each job
    multiprocessing.get_context("forkserver").set_forkserver_preload(HEAVY)

    wanted = [(room, mutant) for room, mutant in chosen if asked.equal or not mutant.equal]
    found = []
    for verdict in verdicts(wanted, [] if asked.match else rooms, asked.jobs):
        found.append(verdict)
        say(verdict)
    return summed(rooms, [mutant for _, mutant in chosen], found)


def summed(rooms: Sequence[Room], chosen: Sequence[Mutant], found: Sequence[Verdict]) -> int:
    """Print how many were caught, room by room, and what is wrong; return 1 if anything is, else 0."""
    caught = [verdict.mutant for verdict in found if verdict.caught]
    print()
    for room in rooms:
        its = sum(mutant.room == room.name for mutant in chosen)
        print(f"{room.name:10} {sum(mutant.room == room.name for mutant in caught):4} of {its} caught")
    print(f"{'all':10} {len(caught):4} of {len(chosen)} caught, {len(caught) / max(1, len(chosen)):.1%}")
    wrong = [verdict for verdict in found if verdict.caught == bool(verdict.mutant.equal)]
    for verdict in wrong:
        said = "said to be equal in effect, yet caught" if verdict.caught else "nothing noticed it"
        print(f"  {verdict.mutant.path}: {verdict.mutant.what}: {said}")
    return int(bool(wrong) or len(caught) < WANTED * len(chosen))


if __name__ == "__main__":
    sys.exit(main())
