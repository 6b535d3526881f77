"""The images for real: built without a network, run as compose says, asked by a robot, and stopped."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

pytestmark = pytest.mark.container

URL = "http://127.0.0.1:8000"
STATUS = "import pathlib; print(pathlib.Path('/proc/self/status').read_text())"
WEIGHTS = (".safetensors", ".pt", ".bin", ".gguf")
FIND = f"""
import pathlib
for path in pathlib.Path('/srv/stillframe').rglob('*'):
    if path.suffix in {WEIGHTS}: print(path)
"""
READ_ONLY = ("/", "/srv/stillframe", "/srv/stillframe/checkpoints/jaco-tiny", "/opt/stillframe", "/var/lib")
TOUCH = """
import errno, pathlib, sys
for folder in sys.argv[1:]:
    try:
        pathlib.Path(folder, 'written').touch()
        print(folder)
    except OSError as problem:
        if problem.errno != errno.EROFS: raise
"""


@pytest.fixture(scope="module")
def daemon(image: str, service: Mapping[str, Any], run: Callable[..., Any]) -> Iterator[Any]:
    """The daemon of the profile `demo`, healthy."""
    with run(image, service) as container:
        container.wait_healthy()
        yield container


def status_of(container: Any) -> dict[str, str]:
    """What the kernel says of a process in it."""
    lines = container.execute("python", "-c", STATUS).stdout.splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def test_a_frame_is_answered_with_an_action(daemon: Any) -> None:
    """Seven finite numbers come over HTTP, from the checkpoint that is mounted."""
    answered = daemon.robot("act", URL)

    assert len(answered["action"]) == 7
    assert all(-10 < number < 10 for number in answered["action"])
    assert answered["model"] == "jaco-tiny"


def test_it_has_no_privilege(daemon: Any) -> None:
    """A user that is not root, no capability of any set, no way to gain one, and a filter of system calls."""
    status = status_of(daemon)

    assert {*status["Uid"].split()} == {"10001"}
    assert {*status["Gid"].split()} == {"10001"}
    assert [int(status[name], 16) for name in ("CapPrm", "CapEff", "CapBnd", "CapAmb")] == [0] * 4
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")


def test_it_writes_nowhere_but_to_scratch(daemon: Any) -> None:
    """Root and weights are read-only even to user 0, who owns them; /tmp takes a file."""
    written = daemon.execute("python", "-c", TOUCH, *READ_ONLY, "/tmp", user="0:0").stdout  # noqa: S108 (the container's)

    assert written.splitlines() == ["/tmp"]  # noqa: S108


def test_it_is_in_a_network_of_its_own(daemon: Any) -> None:
    """Nothing of this machine's network is seen in it: a loopback and nothing else."""
    names = daemon.execute("python", "-c", "import socket; print(*(name for _, name in socket.if_nameindex()))").stdout

    assert "lo" in names.split()
    assert not [name for name in names.split() if name.startswith(("eth", "en", "wl", "br", "docker"))]


def test_its_health_check_asks_the_daemon(daemon: Any) -> None:
    """It succeeds for the one that runs, found by its command line, and names its address."""
    assert daemon.execute("stillframe", "healthcheck").stdout == f"ready: {URL}\n"
    assert daemon.execute("stillframe", "healthcheck", "--port", "8001", check=False).returncode == 1


def test_the_arm_is_driven(daemon: Any, demo: str, services: Mapping[str, Any], run: Callable[..., Any]) -> None:
    """The simulated arm of the profile, as little privileged, plays an episode to its end with the daemon's actions."""
    with run(demo, services["arm"], beside=daemon) as arm:
        arm.wait(lambda: " steps" in arm.log())
        status, said = status_of(arm), arm.log()

    assert re.search(r"^ +1  .+: (not )?done after [1-9]\d* steps$", said, re.MULTILINE), said
    assert "Read-only file system" not in said
    assert {*status["Uid"].split()} == {"10001"}
    assert (int(status["CapBnd"], 16), status["NoNewPrivs"], status["Seccomp"]) == (0, "1", "2")


def test_it_drains(image: str, service: Mapping[str, Any], run: Callable[..., Any]) -> None:
    """SIGTERM while frames wait: each is answered, /readyz says that it drains, and then it leaves with 0.

    On a machine that is too busy a frame may have grown too old meanwhile, which is 504 and an answer, too.
    """
    with run(image, service) as container:
        container.wait_healthy()
        stopped = container.robot("stop", URL, str(container.inspect()["State"]["Pid"]))
        container.engine.run("wait", container.name)
        left = container.inspect()["State"]["ExitCode"]

    assert stopped["waiting"] > 0
    assert {200} <= {*stopped["answers"]} <= {200, 504}
    assert stopped["states"] == ["ready", "draining"]
    assert left == 0


def test_weights_come_by_volume_alone(
    engine: Any, image: str, service: Mapping[str, Any], run: Callable[..., Any]
) -> None:
    """The image holds none; without the volume it ends at once, and says which folder it looked for."""
    found = engine.python(image, FIND)
    with run(image, {**service, "volumes": []}) as container:
        container.engine.run("wait", container.name)
        left, said = container.inspect()["State"]["ExitCode"], container.log()

    assert found == ""
    assert left == 1
    assert "checkpoints/jaco-tiny" in said


@pytest.mark.usefixtures("image")  # whose layers it stands on
def test_a_build_for_a_gpu_takes_no_torch_without_cuda(engine: Any) -> None:
    """From the wheels that `image` was built from, which have a CPU's torch: the build ends, and says why."""
    built = engine.build("localhost/stillframe-cuda", check=False, ACCELERATOR="cuda")

    assert built.returncode != 0
    assert "ACCELERATOR=cuda, and pip found a torch for CPUs" in built.stdout + built.stderr
