"""The images, built and run by podman on a root file system of Debian's: no Docker daemon, no registry.

`make test-containers` makes what they stand on, in the folder that STILLFRAME_CONTAINERS names: base.tar, the root file
system, which debootstrap made, and wheels/, from which pip installs. Without that, or not as root, the tests skip.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

HERE, ROOT = Path(__file__).parent, Path(__file__).parents[2]
BASE, IMAGE, DEMO = "localhost/stillframe-base", "localhost/stillframe-daemon", "localhost/stillframe-demo"
SOON_S = 300.0  # bounds what has to happen; nothing is expected to take this long
MISSING = "`make test-containers`, as root, makes what it stands on"
PROGRAMS = ("podman", "runc", "catatonit", "nsenter")
LIMITS = ("--ulimit=nofile=4096", "--ulimit=nproc=4096")  # the engine's own may be above those of this machine
ALONE = "--network=none"  # a network of its own that has a loopback alone


@dataclass(frozen=True)
class Engine:
    """Podman with a store of its own. runc, because crun refuses machines that have cgroups of both versions."""

    folder: Path  # base.tar, wheels and the store

    def run(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """One command; its output as text. With `check` it has to succeed."""
        store = ["--root", str(self.folder / "storage"), "--runroot", str(self.folder / "run")]
        command = ["podman", *store, "--runtime", "runc", "--cgroup-manager", "cgroupfs", *words]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert not check or done.returncode == 0, f"{' '.join(words)}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
        return done

    def python(self, image: str, program: str) -> str:
        """What a program prints that an image's Python runs, in a container for it alone."""
        return self.run("run", "--rm", *LIMITS, ALONE, "--entrypoint", "python", image, "-c", program).stdout

    def build(
        self, tag: str, *, recipe: str = "Dockerfile", network: str = "none", check: bool = True, **arguments: str
    ) -> subprocess.CompletedProcess[str]:
        """Build a recipe with the build arguments; pip has the wheels alone."""
        arguments = {"BASE": BASE, "PIP_NO_INDEX": "1"} | arguments
        words = [f"--build-arg={name}={value}" for name, value in arguments.items()]
        words += [f"--build-context=wheels={self.folder / 'wheels'}", f"--network={network}", f"--tag={tag}"]
        # Docker's format, because OCI's has no health check.
        return self.run("build", "--format=docker", "--layers", f"--file={recipe}", *words, ".", check=check)


@dataclass(frozen=True)
class Container:
    """One that runs."""

    engine: Engine
    name: str

    def inspect(self) -> Mapping[str, Any]:
        """What podman knows of it."""
        (known,) = json.loads(self.engine.run("container", "inspect", self.name).stdout)
        return known  # type: ignore[no-any-return]

    def execute(self, *words: str, user: str = "", check: bool = True) -> subprocess.CompletedProcess[str]:
        """A command in it, as its user or another."""
        return self.engine.run("exec", *([f"--user={user}"] if user else []), self.name, *words, check=check)

    def robot(self, *words: str) -> Any:
        """What robot.py prints, run by this interpreter in the container's network."""
        network = f"--net=/proc/{self.inspect()['State']['Pid']}/ns/net"
        command = ["nsenter", network, sys.executable, str(HERE / "robot.py"), *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=SOON_S)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def log(self) -> str:
        """What it has said so far, on either stream."""
        said = self.engine.run("logs", self.name)
        return said.stdout + said.stderr

    def wait_healthy(self) -> None:
        """Run the image's own health check until it succeeds."""
        self.wait(lambda: self.engine.run("healthcheck", "run", self.name, check=False).returncode == 0)

    def wait(self, happened: Callable[[], bool]) -> None:
        """Ask every second whether it has; fails where the container ends before, and after SOON_S."""
        until_s = time.monotonic() + SOON_S
        while not happened():
            assert self.inspect()["State"]["Running"], self.log()
            assert time.monotonic() < until_s, self.log()
            time.sleep(1)


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    """Podman, with the base image imported; skips where something is missing that `make test-containers` brings."""
    folder = Path(os.environ.get("STILLFRAME_CONTAINERS", "")).resolve()
    missing = [name for name in ("base.tar", "wheels/.complete") if not (folder / name).exists()]
    missing += [name for name in PROGRAMS if shutil.which(name) is None]
    if missing or os.geteuid() != 0:
        pytest.skip(f"no {', '.join(missing) or 'root'}: {MISSING}")
    made = Engine(folder)
    made.run("image", "prune", "--force", "--filter", "until=24h")  # layers of older sources, a gigabyte each
    if made.run("image", "exists", BASE, check=False).returncode != 0:
        made.run("import", str(folder / "base.tar"), BASE)
    yield made
    made.run("rm", "--force", "--all")


@pytest.fixture(scope="session")
def image(engine: Engine) -> str:
    """The daemon's image for a CPU, built without a network."""
    engine.build(IMAGE, ACCELERATOR="cpu")
    return IMAGE


@pytest.fixture(scope="session")
def demo(engine: Engine, image: str) -> str:
    """The arm's image on top of it; OpenGL comes from Debian's packages, which takes a network."""
    engine.build(DEMO, recipe="docker/demo.Dockerfile", network="host", STILLFRAME=image)
    return DEMO


@pytest.fixture(scope="session")
def services() -> Mapping[str, Any]:
    """What docker-compose.yml says of each service."""
    read: Mapping[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    return read


@pytest.fixture(scope="session")
def service(services: Mapping[str, Any]) -> Mapping[str, Any]:
    """What it says of the daemon on a CPU."""
    daemon: Mapping[str, Any] = services["stillframe"]
    return daemon


def options_of(service: Mapping[str, Any]) -> list[str]:
    """Podman's options for what compose says of a service: read-only root, scratch, privileges, volumes, init."""
    words = ["--read-only"] * service["read_only"] + ["--init"] * service["init"]
    words += [word for folder in service["tmpfs"] for word in ("--tmpfs", folder)]
    words += [word for capability in service["cap_drop"] for word in ("--cap-drop", capability)]
    words += [word for option in service["security_opt"] for word in ("--security-opt", option)]
    volumes = [volume.replace("./", f"{ROOT}/", 1) for volume in service.get("volumes", ())]
    return words + [word for volume in volumes for word in ("--volume", volume)]


@pytest.fixture(scope="session")
def run(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """Gives `with running(image, service) as container`: an image run as compose runs a service, and removed then.

    Alone, or with `beside` in the daemon's network, where that has the name that compose gives it.
    """
    hosts = tmp_path_factory.mktemp("containers") / "hosts"
    hosts.write_text("127.0.0.1 localhost stillframe\n")

    @contextmanager
    def running(image: str, service: Mapping[str, Any], beside: Container | None = None) -> Iterator[Container]:
        name = f"stillframe-{time.monotonic_ns()}"
        network = [ALONE]
        if beside is not None:
            network = [f"--network=container:{beside.name}", f"--volume={hosts}:/etc/hosts:ro"]
        # Its log in a file, because there is no journal where systemd does not run.
        own = ["--detach", "--name", name, *LIMITS, *network, "--log-driver", "k8s-file"]
        engine.run("run", *own, *options_of(service), image, *service["command"])
        try:
            yield Container(engine, name)
        finally:
            engine.run("rm", "--force", "--time", "0", name)

    return running
