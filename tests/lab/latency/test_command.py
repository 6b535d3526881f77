from __future__ import annotations

import json
import subprocess
import sys
from functools import partial
from pathlib import Path
from time import thread_time
from typing import Any

import pytest
import torch

from stillframe.daemon.config import load_config
from stillframe.errors import ConfigError
from stillframe.models.base import PolicyModel
from stillframe.models.checkpoint import CheckpointFolder
from stillframe_client.sim import JacoEnv
from stillframe_lab.latency import closed_loop, command, roofline
from stillframe_lab.latency.command import TRAINED, BenchSettings, knobs_of, run_bench
from stillframe_lab.latency.race import RaceLimits
from stillframe_lab.latency.report import summary, write_report
from stillframe_lab.latency.stock import STOCK, stock_decoder

ROOT = Path(__file__).parents[3]
CONFIG = ROOT / "configs" / "jaco-tiny.yaml"
PROMISED = {"name", "model", "dtype", "reuse_ratio", "passes_per_action", "p50_ms", "speedup_vs_stock"}
LACKING = (
    "fastapi",
    "uvicorn",
    "mujoco",
    "dm_control",
    "pydantic",
    "httpx",
    "websockets",
    "typer",
    "rich",
    "matplotlib",
)


@pytest.fixture(scope="module")
def document(tiny_folder: CheckpointFolder) -> dict[str, Any]:
    """A short run of the trained model, shorter still, on a machine whose roof small products show."""
    wanted = BenchSettings(tiny_folder.path, torch.device("cpu"), knobs_of(CONFIG), (TRAINED,), quick=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(command.QUICK_LIMITS, TRAINED, RaceLimits(1, 0.0, warm_up=0))
        patch.setattr(roofline, "CPU_SHAPES", ((49, 128, 256), (64, 64, 64)))
        patch.setitem(roofline.COPIED_BYTES, "cpu", 2**22)
        made = run_bench(wanted, lambda *_: None)
    return json.loads(json.dumps(made))  # type: ignore[no-any-return]


def test_the_document_holds_what_was_promised(document: dict[str, Any]) -> None:
    """Every row has its keys; the stock way is there in both dtypes; machine and roofline too."""
    rows = document["rows"]

    assert all(row.keys() >= PROMISED for row in rows)
    assert {(row["name"], row["dtype"]) for row in rows} >= {(STOCK, "float32"), (STOCK, "bfloat16")}
    assert len({(row["name"], row["dtype"]) for row in rows}) == len(rows)
    assert document["machine"]["threads"] == 1
    assert set(document["roofline"]["gemm"]) == {"float32", "bfloat16"}
    assert document["closed_loop"] == {"skipped": "not asked for"}


def test_the_report_is_of_every_device(
    document: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each has a file and charts of its own, and the README a section for each; it says where no GPU was."""
    pytest.importorskip("matplotlib")
    with monkeypatch.context() as undrawn:  # the other device's charts are
        undrawn.setattr("stillframe_lab.latency.charts.save_figure", lambda _, file: file.touch())
        written = write_report(tmp_path, document)
    alone = (tmp_path / "README.md").read_text(encoding="utf-8")
    write_report(tmp_path, {**document, "device": "a-gpu", "machine": {**document["machine"], "device": "a GPU"}})
    page = (tmp_path / "README.md").read_text(encoding="utf-8")

    assert {file.name for file in tmp_path.iterdir()} >= {"a-gpu.json", "a-gpu-stages.png", *written}
    assert json.loads((tmp_path / f"{document['device']}.json").read_text(encoding="utf-8")) == document
    assert document["device"].endswith(document["machine"]["instruction_set"])
    assert f"## {document['device']}" in page
    assert "## a-gpu" in page
    assert "Not measured" in alone
    assert "Not measured" not in page


def test_the_terminal_has_a_line_a_row(document: dict[str, Any]) -> None:
    """And what the machine can do."""
    text = summary(document)

    assert sum(line.startswith(TRAINED) for line in text.splitlines()) == len(document["rows"])
    assert "GFLOP/s" in text
    assert "GB/s" in text


def test_a_model_that_there_is_not_is_refused(tmp_path: Path) -> None:
    """Before anything is measured, with the nearest name."""
    wanted = BenchSettings(tmp_path, torch.device("cpu"), knobs_of(CONFIG), ("1024x61",))
    with pytest.raises(ConfigError, match="1024x16"):
        run_bench(wanted, lambda *_: None)


def test_the_knobs_are_those_of_the_deployment() -> None:
    """Read without what checks a whole configuration, they come to the same."""
    assert knobs_of(CONFIG) == load_config(CONFIG, {}).reuse


@pytest.mark.slow
@pytest.mark.process
def test_it_runs_where_little_is_installed() -> None:
    """A machine with torch and transformers alone imports all of it; without the simulator the reason is said."""
    script = (
        f"import sys; sys.modules.update(dict.fromkeys({LACKING!r}))\n"
        "import stillframe_lab.latency.__main__\n"
        "from stillframe_lab.latency.closed_loop import missing\n"
        "print(missing())\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, cwd=ROOT)

    assert done.returncode == 0, done.stderr
    assert "Error" in done.stdout


@pytest.mark.usefixtures("needs_gl")
def test_both_ways_play_the_same_episodes(
    tiny: PolicyModel, tiny_folder: CheckpointFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One each, of a few steps: the same seed, both to their end, ours in fewer passes."""
    monkeypatch.setattr("stillframe_client.sim.JacoEnv", partial(JacoEnv, max_steps=8))
    llama = stock_decoder(tiny_folder, tiny.decoder.config, dtype=torch.float32, device=torch.device("cpu"))
    players: dict[str, closed_loop.Player] = {
        STOCK: closed_loop.StockPlayer(tiny, llama),
        closed_loop.OURS: closed_loop.StillframePlayer(tiny, knobs_of(CONFIG), thread_time),
    }
    loop = closed_loop.play_all(players, 1, thread_time, lambda *_: None)
    stock, ours = loop["rows"]

    assert [row["wins"] + len(row["failed_seeds"]) for row in loop["rows"]] == [1, 1]
    assert (stock["passes_per_action"], stock["speedup_vs_stock"]) == (7, 1.0)
    assert 1 <= ours["passes_per_action"] < 7
    assert ours["reuse_ratio"] > 0
