from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from prometheus_client import CollectorRegistry

from stillframe import cli
from stillframe.daemon.config import load_config
from stillframe.daemon.serve import Loader
from stillframe.metrics import Metrics
from stillframe.web.service.lifecycle import Lifecycle
from stillframe.web.service.model_card import model_card

if TYPE_CHECKING:
    from conftest import Hub  # type: ignore[import-not-found]

Files = dict[str, bytes]
GOLDENS = Path(__file__).parents[2] / "goldens"


def run(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    """The program's own main(); its status."""
    monkeypatch.setattr(sys, "argv", ["stillframe", *map(str, words)])
    try:
        cli.main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def test_inspect_takes_an_id(
    hub: Hub, openvla: Files, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And says which commit it is; as an argument and in a YAML; one that is not there fails in a line."""
    commit = hub.publish("lab/policy", openvla)
    Path("daemon.yaml").write_text("checkpoint: lab/policy@main")

    for named in ("lab/policy", "daemon.yaml"):
        assert run(monkeypatch, "inspect", named, "--json", "-") == 0
        found = json.loads(capsys.readouterr().out)
        assert (found["served"], found["source"]) == (True, f"lab/policy@{commit}")
        assert found["contract"]["name"] == "policy"
    assert run(monkeypatch, "inspect", "lab/policy") == 0
    assert commit in capsys.readouterr().out
    assert run(monkeypatch, "inspect", "lab/nothing") == 1
    assert capsys.readouterr().err.startswith(f"stillframe: {hub.url} has no repository lab/nothing")


@pytest.mark.process
def test_the_librarys_environment_is_what_counts(hub: Hub, openvla: Files, tmp_path: Path) -> None:
    """Its endpoint, its token, its home: in a process that imports it anew."""
    commit = hub.publish("lab/policy", openvla)
    given = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"), "HF_TOKEN": "hf_own", "HF_HUB_DISABLE_XET": "1"}
    command = [sys.executable, "-m", "stillframe", "inspect", "lab/policy", "--json", "-"]
    done = subprocess.run(command, env=os.environ | given, capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (0, "")
    folder = Path(json.loads(done.stdout)["checkpoint"])
    assert folder == tmp_path / "home" / "hub" / "models--lab--policy" / "snapshots" / commit
    assert {token for _, path, token in hub.asked if not path.startswith("/blob/")} == {"Bearer hf_own"}


def test_parity_takes_an_id(hub: Hub, openvla: Files, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What came is what the goldens were made of."""
    hub.publish("lab/policy", openvla)

    assert (
        run(monkeypatch, "parity", "lab/policy", GOLDENS / "openvla-micro.npz", "--json", tmp_path / "found.json") == 0
    )
    assert json.loads((tmp_path / "found.json").read_text())["family"] == "openvla"


def test_the_daemon_serves_an_id(hub: Hub, openvla: Files) -> None:
    """It is fetched as the policy is loaded, and /v1/models names repository and commit."""
    commit = hub.publish("lab/policy", openvla)
    config = load_config(None, {"checkpoint": "lab/policy", "device": "cpu", "dtype": "float32"})
    lifecycle = Lifecycle(watchdog_s=30)
    metrics = Metrics(CollectorRegistry(), drift_budget=0.02)
    loader = Loader(config, lifecycle, None, metrics, None, logging.getLogger("hub-test"))  # type: ignore[arg-type]
    loader.run()
    try:
        assert loader.failure is None
        assert lifecycle.policy is not None
        card = model_card(lifecycle.policy.info)
        assert (card.name, card.source) == ("policy", f"lab/policy@{commit}")
    finally:
        if lifecycle.policy is not None:
            lifecycle.policy.close()


def test_a_configuration_alone_asks_nothing(hub: Hub) -> None:
    """A health check reads one, and what clients send cannot name another checkpoint."""
    assert str(load_config(None, {"checkpoint": "lab/policy@v1"}).checkpoint) == "lab/policy@v1"
    assert hub.asked == []
