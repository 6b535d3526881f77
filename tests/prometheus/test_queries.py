"""Every query of the shipped dashboard and rules, asked of a real Prometheus that scrapes two daemons under load.

One daemon has a policy that says actions as tokens and looks at older frames, and records; the other draws chunks.
"""

from __future__ import annotations

import json
import math
import re
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import yaml
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from stillframe.tools.local_daemon import daemon
from stillframe_client import PolicyClient, Refused

ROOT = Path(__file__).resolve().parents[2]
DOCKER = ROOT / "docker"
DASHBOARD = json.loads((DOCKER / "grafana/dashboards/stillframe.json").read_text())
QUERIES = [(panel["title"], target["expr"]) for panel in DASHBOARD["panels"] for target in panel["targets"]]
RULES = [rule for group in yaml.safe_load((DOCKER / "alerts.yml").read_text())["groups"] for rule in group["rules"]]
VARIABLES = {"$job": ".+", "$__rate_interval": "1m"}  # as Grafana fills them in, with all jobs chosen
ON_A_GPU = {"stillframe_graph_replays_total", "stillframe_eager_passes_total"}  # passes are recorded on a GPU alone
WORDS = "pick up the red cube"
SOON_S = 120.0

Ask = Callable[[str], list[float]]


@pytest.fixture(scope="module")
def program(tool: Callable[[str], str]) -> str:
    """Prometheus; without it nothing is started."""
    return tool("prometheus")


@pytest.fixture(scope="module")
def daemons(
    program: str,  # noqa: ARG001 (it skips)
    tmp_path_factory: pytest.TempPathFactory,
    new_port: Callable[[], int],
) -> Iterator[list[str]]:
    """The addresses of two real ones, each with a robot that drives it until the tests are done."""
    folder = tmp_path_factory.mktemp("daemons")
    settings: dict[str, dict[str, Any]] = {
        "jaco-tiny-memory": {"record": str(folder / "episodes"), "reuse": {"mode": "adaptive", "drift_budget": 0.02}},
        "jaco-tiny-pi0": {},
    }
    with ExitStack() as running:
        urls = []
        for name, more in settings.items():
            config = yaml.safe_load((ROOT / "configs" / f"{name}.yaml").read_text()) | more
            file = folder / f"{name}.yaml"
            file.write_text(yaml.safe_dump({**config, "checkpoint": str(ROOT / "checkpoints" / name)}))
            urls.append(running.enter_context(daemon([str(file)], new_port())))
        for url in urls:
            running.enter_context(driven(url))
        yield urls


@contextmanager
def driven(url: str) -> Iterator[None]:
    """A robot sends frames of a still scene: some on each other's heels, one that is rejected, then a pause."""
    over = threading.Event()

    def drive() -> None:
        picture = np.random.default_rng(7).integers(0, 256, (6, 8, 3), np.uint8).repeat(10, 0).repeat(10, 1)
        with PolicyClient(url, timeout_s=60, session="arm") as client:
            state = {"state": np.zeros(len(named.names))} if (named := client.info().state) else {}
            while not over.is_set():
                for _ in range(4):
                    client.act(picture, WORDS, **state)
                with suppress(Refused):
                    client.act(picture, WORDS, unnorm_key="another robot's", **state)
                over.wait(0.5)

    robot = threading.Thread(target=drive)
    robot.start()
    try:
        yield
    finally:
        over.set()
        robot.join()


@pytest.fixture(scope="module")
def prometheus_api(
    program: str,
    daemons: list[str],
    tmp_path_factory: pytest.TempPathFactory,
    new_port: Callable[[], int],
) -> Iterator[httpx.Client]:
    """The API of a real one: the shipped configuration with other targets, the shipped rules, every second."""
    folder, port = tmp_path_factory.mktemp("prometheus"), new_port()
    config = yaml.safe_load((DOCKER / "prometheus.yml").read_text())
    config["global"] = dict.fromkeys(config["global"], "1s")
    config["rule_files"] = [str(DOCKER / Path(named).name) for named in config["rule_files"]]
    targets = [url.removeprefix("http://") for url in daemons]
    config["scrape_configs"][0]["static_configs"] = [{"targets": targets}]
    file = folder / "prometheus.yml"
    file.write_text(yaml.safe_dump(config))
    words = [f"--config.file={file}", f"--storage.tsdb.path={folder}", f"--web.listen-address=127.0.0.1:{port}"]
    process = subprocess.Popen([program, *words, "--log.level=error"])
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=SOON_S) as client:
            wait_until(lambda: is_ready(client))
            yield client
    finally:
        process.terminate()
        process.wait()


@pytest.fixture(scope="module")
def ask(prometheus_api: httpx.Client) -> Ask:
    """What Prometheus answers to a query now: a value for each series. An invalid one fails the test."""

    def values(query: str) -> list[float]:
        reply = prometheus_api.get("/api/v1/query", params={"query": query}).json()
        assert reply["status"] == "success", reply
        return [float(series["value"][1]) for series in reply["data"]["result"]]

    return values


def is_ready(client: httpx.Client) -> bool:
    """Whether it answers queries."""
    with suppress(httpx.TransportError):
        return client.get("/-/ready").is_success
    return False


def wait_until(holds: Callable[[], Any]) -> Any:
    """What it gives once that is true, or at the end: waits for long but not forever."""
    until_s = time.monotonic() + SOON_S
    while not (found := holds()) and time.monotonic() < until_s:
        time.sleep(0.5)
    return found


def filled_in(expr: str) -> str:
    """A panel's query as Grafana sends it."""
    for variable, value in VARIABLES.items():
        expr = expr.replace(variable, value)
    return expr


@pytest.mark.parametrize(("title", "expr"), QUERIES)
def test_panel_has_data(title: str, expr: str, ask: Ask) -> None:
    """Numbers, where the daemons have met what it shows; of a GPU's passes there is nothing here."""
    query = filled_in(expr)

    assert "$" not in query
    if ON_A_GPU & set(re.findall(r"stillframe_\w+", expr)):
        assert ask(query) == []
        return
    assert wait_until(lambda: any(map(math.isfinite, ask(query)))), title


def test_jobs_can_be_chosen(prometheus_api: httpx.Client, ask: Ask) -> None:
    """The dashboard's $job, label_values(SERIES, LABEL), lists the shipped configuration's job."""
    (variable,) = [variable for variable in DASHBOARD["templating"]["list"] if variable["name"] == "job"]
    series, label = re.findall(r"\w+", variable["query"]["query"].removeprefix("label_values"))
    wait_until(lambda: ask(series))
    values = prometheus_api.get(f"/api/v1/label/{label}/values", params={"match[]": series}).json()["data"]

    assert values == ["stillframe"]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_rule_has_both_its_sides(rule: dict[str, Any], ask: Ask, daemons: list[str]) -> None:
    """Asked with `bool`, its comparisons answer 0 or 1 for each daemon that has what it asks about."""
    asked = re.sub(r" ([<>]=?|[!=]=) ", r" \1 bool ", rule["expr"])
    those = 1 if "stillframe_recording" in asked else len(daemons)  # one records

    assert asked != rule["expr"]
    assert set(wait_until(lambda: len(found := ask(asked)) == those and found)) <= {0.0, 1.0}


def test_rules_are_evaluated(prometheus_api: httpx.Client) -> None:
    """Prometheus has all of the shipped rules, and none of them fails."""

    def health() -> dict[str, str]:
        groups = prometheus_api.get("/api/v1/rules").json()["data"]["groups"]
        return {rule["name"]: rule["health"] for group in groups for rule in group["rules"]}

    wait_until(lambda: "unknown" not in health().values())

    assert health() == dict.fromkeys((rule["alert"] for rule in RULES), "ok")


@pytest.mark.parametrize(
    "query",
    [
        'stillframe_frames_total{outcome="answered"}',
        'stillframe_frames_total{outcome="rejected"}',
        'stillframe_recording_frames_total{result="kept"}',
        'stillframe_reuse_ratio_sum{mode="adaptive"}',
        "stillframe_drift_count",
        "stillframe_chunk_drift_count",
        "stillframe_history_utility_count",
        "stillframe_draft_accepted_tokens_count",
        "stillframe_slack_yield_seconds_count",
    ],
)
def test_load_is_one(query: str, ask: Ask) -> None:
    """The robots bring about what panels are asked for: otherwise zeros would do."""
    assert wait_until(lambda: max(ask(query), default=0.0) > 0)


def test_daemons_expose_what_the_registry_of_the_tests_has(daemons: list[str], registry: CollectorRegistry) -> None:
    """All of it, but for what a GPU counts; so that the page and the dashboard are held to the whole."""
    exposed = {
        family.name
        for url in daemons
        for family in text_string_to_metric_families(httpx.get(f"{url}/metrics", trust_env=False).text)
        if not family.name.endswith("_created")
    }
    known = {f"{metric.name}_info" if metric.type == "info" else metric.name for metric in registry.collect()}

    assert exposed == known - {name.removesuffix("_total") for name in ON_A_GPU}
