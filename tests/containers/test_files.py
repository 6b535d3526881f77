"""Hold the images, the compose file and the provisioning to each other and to the files they name. Need no engine."""

from __future__ import annotations

import json
import re
import runpy
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from stillframe.cli import app
from stillframe.daemon.config import DaemonConfig
from stillframe.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]

DAEMON, DEMO = "Dockerfile", "docker/demo.Dockerfile"
DAEMONS = {"stillframe:local", "stillframe:cuda"}  # what docker-compose.yml calls the daemon's images
Instruction = tuple[str, str]  # ("COPY", "configs configs")


def instructions(recipe: str = DAEMON) -> list[Instruction]:
    """Give a recipe's instructions in order, continued lines joined, comments gone."""
    lines = (ROOT / recipe).read_text().replace("\\\n", " ").splitlines()
    kept = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    return [(name.upper(), rest.strip()) for name, _, rest in (line.partition(" ") for line in kept)]


def final_stage(recipe: str = DAEMON) -> dict[str, str]:
    """Give the last value of each instruction of the stage that ships."""
    everything = instructions(recipe)
    start = max(i for i, (name, _) in enumerate(everything) if name == "FROM")
    return dict(everything[start:])


def copied_from_context(recipe: str = DAEMON) -> list[str]:
    """Give what the image takes out of the repository, as paths from its root."""
    copies = [rest for name, rest in instructions(recipe) if name == "COPY" and not rest.startswith("--from")]
    return [source for rest in copies for source in rest.split()[:-1]]


def compose() -> dict[str, Any]:
    """Read docker-compose.yml with its anchors merged."""
    read: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return read


def services() -> list[tuple[str, dict[str, Any]]]:
    """Give each service of the compose file with its name."""
    return list(compose()["services"].items())


def mounts() -> Iterator[tuple[str, str]]:
    """Give (source, target in the container) of each volume of each service."""
    for _, service in services():
        for volume in service.get("volumes", []):
            source, target = volume.split(":")[:2]
            yield source, target


def on_host(path: str) -> Path:
    """Find which file of the repository a path inside the Grafana container is."""
    inside = PurePosixPath(path)
    source, target = next(m for m in mounts() if m[0].startswith("./") and inside.is_relative_to(m[1]))
    return ROOT / source / inside.relative_to(target)


def filled(words: list[str]) -> list[str]:
    """Give a service's command as compose makes it where no variable is set."""
    return [re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", word) for word in words]


def served() -> list[list[str]]:
    """Give each command that a daemon is started with: the image's own, and those of the services with a daemon."""
    commands = [service["command"] for _, service in services() if service["image"] in DAEMONS]
    return [json.loads(final_stage()["CMD"]), *(filled(command) for command in commands)]


@pytest.mark.parametrize("source", [*copied_from_context(), *copied_from_context(DEMO)])
def test_copied_files_exist(source: str) -> None:
    """Whatever an image copies is in the repository, and .dockerignore lets it through."""
    allowed = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]

    assert (ROOT / source).exists()
    assert any(PurePosixPath(source).is_relative_to(entry) for entry in allowed)


def test_the_image_holds_no_lab() -> None:
    """Training and evidence stay outside: nothing of lab/ is copied into the daemon's image or installed."""
    installed = [rest for name, rest in instructions() if name == "RUN" and "pip install" in rest]

    assert not [source for source in copied_from_context() if PurePosixPath(source).parts[:1] in {("lab",), ()}]
    assert installed
    assert not [command for command in installed if "lab" in command]


def test_what_is_edited_daily_leaves_the_dependencies_cached() -> None:
    """Up to the first step of pip's, which installs torch, the daemon's recipe copies no README and no folder."""
    steps = instructions()
    first = next(at for at, (name, rest) in enumerate(steps) if name == "RUN" and "pip install" in rest)
    copied = [source for name, rest in steps[:first] if name == "COPY" for source in rest.split()[:-1]]

    assert "pyproject.toml" in copied
    assert "README.md" not in copied
    assert all((ROOT / source).is_file() for source in copied)


def test_no_image_holds_weights() -> None:
    """Neither recipe copies a checkpoint, and none reaches the builder."""
    sources = [*copied_from_context(), *copied_from_context(DEMO)]

    assert not [source for source in sources if PurePosixPath(source).parts[0] == "checkpoints"]
    assert not [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!checkpoints")]


@pytest.mark.parametrize("recipe", [DAEMON, DEMO])
def test_pip_may_take_wheels_alone(recipe: str) -> None:
    """Each step that installs what has dependencies sees the folder of wheels; it is empty where none is given."""
    stages = [rest for name, rest in instructions(recipe) if name == "FROM"]
    installing = [rest for name, rest in instructions(recipe) if name == "RUN" and "pip install" in rest]

    assert "scratch AS wheels" in stages
    assert all("--mount=type=bind,from=wheels,target=/wheels" in command for command in installing)
    assert "PIP_FIND_LINKS=/wheels" in " ".join(rest for _, rest in instructions(recipe))


@pytest.mark.parametrize(
    ("asked", "cuda", "words"),
    [
        ("any", None, None),
        ("any", "12.8", None),
        ("cpu", None, None),
        ("cuda", "12.8", None),
        ("cpu", "12.8", "CUDA 12.8: point TORCH_INDEX at PyTorch's CPU index"),
        ("cuda", None, "CPUs: leave TORCH_INDEX away"),
        ("gpu", None, "expected one of any, cpu, cuda"),
    ],
)
def test_a_build_ends_with_another_torch_than_was_asked_for(asked: str, cuda: str | None, words: str | None) -> None:
    """ACCELERATOR says which; the complaint names what came and what to do."""
    complaint = runpy.run_path(str(ROOT / "docker/check_torch.py"))["complaint"](asked, cuda)

    assert complaint is None if words is None else words in complaint


def test_the_torch_is_checked_as_it_was_asked_for() -> None:
    """The build runs the check with its argument, which takes any torch unless it is given."""
    arguments = dict(rest.split("=") for name, rest in instructions() if name == "ARG")

    assert arguments["ACCELERATOR"] == "any"
    assert ("RUN", '/opt/stillframe/bin/python docker/check_torch.py "${ACCELERATOR}"') in instructions()


@pytest.mark.parametrize("recipe", [DAEMON, DEMO])
def test_image_runs_as_an_unprivileged_user(recipe: str) -> None:
    """The shipped stage ends with a numeric user that is not root, so that runAsNonRoot can be checked."""
    uid, gid = final_stage(recipe)["USER"].split(":")

    assert int(uid) > 0
    assert int(gid) > 0


def test_image_starts_our_command_without_a_shell() -> None:
    """Entry point and command are lists (a shell would swallow SIGTERM), and name a script that the wheel installs."""
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]

    assert json.loads(final_stage()["ENTRYPOINT"])[0] in scripts
    assert json.loads(final_stage()["CMD"])[0] == "serve"
    assert final_stage()["STOPSIGNAL"] == "SIGTERM"


def test_health_is_readiness() -> None:
    """The health check is our own, without a shell, and takes no port for granted."""
    command = json.loads(re.sub(r".*CMD ", "", final_stage()["HEALTHCHECK"]))

    assert command == [json.loads(final_stage()["ENTRYPOINT"])[0], "healthcheck"]


def test_the_demo_drives_the_composed_daemon(monkeypatch: pytest.MonkeyPatch) -> None:
    """The arm's entry point and command are a command line of ours; it asks the daemon's service, once healthy."""
    arm = compose()["services"]["arm"]
    asked: list[str] = []
    monkeypatch.setattr("stillframe_lab.demo.watch.watch_daemon", lambda url, _: asked.append(url))
    program, *words = json.loads(final_stage(DEMO)["ENTRYPOINT"])
    app([*words, *arm["command"]], standalone_mode=False)

    assert program == "stillframe"
    assert asked == [f"http://stillframe:{final_stage()['EXPOSE']}"]
    assert arm["depends_on"] == {"stillframe": {"condition": "service_healthy"}}
    assert arm["build"]["additional_contexts"] == {"stillframe": "service:stillframe"}
    assert final_stage(DEMO)["FROM"] == "${STILLFRAME}"


def test_the_demo_brings_the_packages_that_make_does() -> None:
    """OpenGL for the simulated cameras: the same of Debian's packages as on a machine."""
    (line,) = [line for line in (ROOT / "Makefile").read_text().splitlines() if line.startswith("GL_PACKAGES")]
    (installing,) = [rest for name, rest in instructions(DEMO) if name == "RUN" and "apt-get install" in rest]

    assert " ".join(line.partition(":= ")[2].split()) in " ".join(installing.split())


@pytest.mark.parametrize("command", served())
def test_served_config_is_in_the_image(command: list[str]) -> None:
    """What the container serves: the configuration is copied into it, the checkpoint lies where compose mounts ours."""
    config = next(word for word in command if word.endswith(".yaml"))
    checkpoint = yaml.safe_load((ROOT / config).read_text())["checkpoint"]
    inside = PurePosixPath(final_stage()["WORKDIR"]) / checkpoint

    assert any(PurePosixPath(config).is_relative_to(source) for source in copied_from_context())
    for _, service in services():
        if service["image"] in DAEMONS:
            ((source, target, mode),) = [volume.split(":") for volume in service["volumes"]]
            assert (source, mode) == ("./checkpoints", "ro")
            assert inside.is_relative_to(target)


@pytest.mark.parametrize("command", served())
def test_the_command_is_one_that_the_daemon_takes(command: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """It is open, and says so: without the flag the daemon would refuse to start."""
    asked: list[DaemonConfig] = []
    monkeypatch.setitem(
        sys.modules, "stillframe.daemon.serve", SimpleNamespace(serve=lambda config, _: asked.append(config))
    )
    monkeypatch.setitem(sys.modules, "stillframe.daemon.logs", SimpleNamespace(open_log=lambda: None))
    monkeypatch.chdir(ROOT)
    app(command, standalone_mode=False)

    assert [(config.host, config.allow_anonymous) for config in asked] == [("0.0.0.0", True)]  # noqa: S104 (the container's)
    with pytest.raises(ConfigError, match="other machines reach"):
        app([word for word in command if word != "--allow-anonymous"], standalone_mode=False)


def test_stopping_takes_less_than_compose_waits() -> None:
    """Frames in flight get their time before the engine kills: drain_s of each configuration that is served."""
    drains = [yaml.safe_load((ROOT / command[1]).read_text()).get("drain_s", 10) for command in served()]
    graces = [service["stop_grace_period"] for _, service in services() if service["image"] in DAEMONS]

    assert {*graces} == {"30s"}
    assert max(drains) + 5 < 30


@pytest.mark.parametrize(("name", "service"), services())
def test_services_are_hardened(name: str, service: dict[str, Any]) -> None:
    """Each service has a read-only root, a scratch /tmp, no capabilities and no way to gain any."""
    assert service["read_only"] is True, name
    assert service["tmpfs"] == ["/tmp"]  # noqa: S108 (the container's)
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]


@pytest.mark.parametrize(("name", "service"), services())
def test_ports_are_published_on_loopback_only(name: str, service: dict[str, Any]) -> None:
    """Nothing is reachable from another machine; the arm alone offers nothing."""
    ports = service.get("ports", [])

    assert bool(ports) == (name != "arm")
    assert all(port.startswith("127.0.0.1:") for port in ports)


@pytest.mark.parametrize(("name", "service"), services())
def test_images_are_pinned(name: str, service: dict[str, Any]) -> None:
    """An image that is not built here carries a full version."""
    assert "build" in service or re.fullmatch(r"[a-z/]+:v?\d+\.\d+\.\d+", service["image"]), name


@pytest.mark.parametrize(("profile", "daemon"), [("demo", "stillframe"), ("gpu", "stillframe-gpu")])
def test_a_profile_brings_one_daemon_and_all_that_watches_it(profile: str, daemon: str) -> None:
    """Prometheus, Grafana and a daemon that Prometheus knows as `stillframe`; without a profile nothing comes up."""
    brought = {name for name, service in services() if profile in service["profiles"]}
    aliases = compose()["services"][daemon].get("networks", {}).get("default", {}).get("aliases", [daemon])

    assert {name for name in brought if compose()["services"][name]["image"] in DAEMONS} == {daemon}
    assert brought - {daemon, "arm"} == {"prometheus", "grafana"}
    assert aliases == ["stillframe"]


def test_the_gpus_daemon_has_a_gpu_and_a_torch_for_it() -> None:
    """The profile reserves a device of NVIDIA's, and its build takes no torch without CUDA."""
    service = compose()["services"]["stillframe-gpu"]
    (device,) = service["deploy"]["resources"]["reservations"]["devices"]

    assert (device["driver"], device["count"], device["capabilities"]) == ("nvidia", 1, ["gpu"])
    assert service["build"]["args"]["ACCELERATOR"] == "cuda"


def test_mounts_exist() -> None:
    """A bind mount names something in the repository (Docker would make a folder of a typo); a volume is declared."""
    for source, _ in mounts():
        assert (ROOT / source).exists() if source.startswith("./") else source in compose()["volumes"]


def test_prometheus_scrapes_the_daemon() -> None:
    """The scrape target is the daemon's service on the port that it listens on."""
    config = yaml.safe_load((ROOT / "docker/prometheus.yml").read_text())
    targets = [t for job in config["scrape_configs"] for group in job["static_configs"] for t in group["targets"]]

    assert targets == [f"stillframe:{final_stage()['EXPOSE']}"]


def test_grafana_reads_prometheus() -> None:
    """The data source points at the Prometheus service and knows its scrape interval, which $__rate_interval needs."""
    source = yaml.safe_load(on_host("/etc/grafana/provisioning/datasources/prometheus.yml").read_text())["datasources"][
        0
    ]
    scrape = yaml.safe_load((ROOT / "docker/prometheus.yml").read_text())["global"]["scrape_interval"]

    assert re.fullmatch(r"http://(\w+):\d+", source["url"])[1] in compose()["services"]  # type: ignore[index]
    assert source["jsonData"]["timeInterval"] == scrape


def test_grafana_finds_the_dashboard() -> None:
    """The folder that is provisioned and the page that Grafana opens with are both mounted, and hold the dashboard."""
    provider = yaml.safe_load(on_host("/etc/grafana/provisioning/dashboards/stillframe.yml").read_text())["providers"][
        0
    ]
    home = compose()["services"]["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]

    assert on_host(home).parent == on_host(provider["options"]["path"])
    assert json.loads(on_host(home).read_text())["panels"]


def test_constraints_pin_every_requirement() -> None:
    """Each requirement of the daemon, of the lab and of their builds has one exact version, without a build suffix."""
    lists = []
    for file in ("pyproject.toml", "lab/pyproject.toml"):
        project = tomllib.loads((ROOT / file).read_text())
        lists += [project["build-system"]["requires"], project["project"]["dependencies"]]
        lists += project["project"]["optional-dependencies"].values()
    named = {re.split(r"[\[<>=!~ ]", requirement)[0] for requirements in lists for requirement in requirements}
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    pins = {line.partition("==")[0].lower().replace("_", "-") for line in lines}

    assert all(re.fullmatch(r"[\w.-]+==[\w.!]+", line) for line in lines)
    assert {name.lower().replace("_", "-") for name in named} - {"stillframe"} <= pins
