"""What the one who runs a daemon meets: stops at any moment, broken weights, a standard error that is closed."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
from safetensors.torch import load_file, save_file

WAIT_S = 60
HEAD = "language_model.lm_head.weight"
# What is wrong with the weights, and what is said of it.
DAMAGES = {"half": "zeros", "flat": "is no action (flat)", "nan": "weights have to be finite"}

Start = Callable[..., "subprocess.Popen[str]"]


class Ended(NamedTuple):
    """A daemon that did not come to serve."""

    status: int
    said: str


@pytest.fixture
def start() -> Iterator[Start]:
    """Start daemons; those that are left are killed."""
    made: list[subprocess.Popen[str]] = []

    def run(checkpoint: Path, *options: str, python: tuple[str, ...] = ("-m", "stillframe"), **how: Any) -> Any:
        on = ("--device", "cpu", "--dtype", "float32")
        command = (sys.executable, *python, "serve", "--checkpoint", str(checkpoint), *on, *options)
        made.append(subprocess.Popen(command, text=True, **{"stderr": subprocess.PIPE, **how}))
        return made[-1]

    yield run
    for process in made:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_while_modules_are_imported_is_a_stop(start: Start, golden_folder: Path, number: signal.Signals) -> None:
    """Torch takes seconds; here it takes for ever. Status 0, and a word."""
    stuck = (
        "import sys, time\n"
        "class Slow:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'torch':\n"
        "            print('importing', flush=True)\n"
        "            time.sleep(600)\n"
        "sys.meta_path.insert(0, Slow())\n"
        "sys.argv[1:1] = []\n"
        "from stillframe.cli import main\n"
        "main()\n"
    )
    process = start(golden_folder, python=("-c", stuck), stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == "importing\n"
    process.send_signal(number)
    _, said = process.communicate(timeout=WAIT_S)

    assert process.returncode == 0
    assert said == f"stillframe: stopped by {number.name} while starting\n"


@pytest.fixture(scope="module")
def ended(golden_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Ended]:
    """What became of a daemon on each of three broken checkpoints: forks of one process that has imported all."""
    folders = {damage: tmp_path_factory.mktemp("broken") / damage for damage in DAMAGES}
    for damage, folder in folders.items():
        shutil.copytree(golden_folder, folder)
        spoil(folder / "model.safetensors", damage)
    script = (
        "import os, sys\n"
        "import stillframe.daemon.serve\n"
        "from stillframe.cli import main\n"
        "for folder in sys.argv[1:]:\n"
        "    if os.fork() == 0:\n"
        "        os.dup2(os.open(folder + '/said', os.O_WRONLY | os.O_CREAT), 2)\n"
        "        on = ['--device', 'cpu', '--dtype', 'float32', '--port', '0']\n"
        "        sys.argv[1:] = ['serve', '--checkpoint', folder, *on]\n"
        "        sys.exit(main())\n"
        "    print(os.waitstatus_to_exitcode(os.wait()[1]))\n"
    )
    command = (sys.executable, "-c", script, *map(str, folders.values()))
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=len(DAMAGES) * WAIT_S, check=True)
    statuses = zip(folders.items(), map(int, done.stdout.split()), strict=True)
    return {damage: Ended(status, (folder / "said").read_text()) for (damage, folder), status in statuses}


def spoil(file: Path, damage: str) -> None:
    """Break a checkpoint's weights."""
    if damage == "half":
        data = file.read_bytes()
        file.write_bytes(data[: len(data) // 2] + bytes(len(data) - len(data) // 2))
        return
    tensors = load_file(file)
    if damage == "nan":
        tensors[HEAD][7, 3] = float("nan")
    else:
        tensors[HEAD] = tensors[HEAD][31_900:31_901].expand_as(tensors[HEAD]).contiguous()
    save_file(tensors, file)


@pytest.mark.parametrize("damage", list(DAMAGES))
def test_a_checkpoint_that_says_nothing_is_not_served(ended: Mapping[str, Ended], damage: str) -> None:
    """It says so, and the status is not 0: nothing ever was ready."""
    assert ended[damage].status == 1
    assert '"event": "ready' not in ended[damage].said
    assert DAMAGES[damage] in ended[damage].said.splitlines()[-1]


def test_with_a_closed_standard_error_it_serves(start: Start, golden_folder: Path, new_port: Callable[[], int]) -> None:
    """`2>&-`: no socket takes the place of standard error, and it stops as told."""
    port = new_port()
    process = start(golden_folder, "--port", str(port), stderr=None, preexec_fn=lambda: os.close(2))
    give_up_s = time.monotonic() + WAIT_S
    status = 0
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
        while status != 200 and time.monotonic() < give_up_s and process.poll() is None:
            with contextlib.suppress(httpx.TransportError):
                status = client.get("/readyz").status_code
            time.sleep(0.05)
    process.send_signal(signal.SIGTERM)

    assert status == 200
    assert process.wait(WAIT_S) == 0
