"""`python -m stillframe_lab.latency`: the benchmark on a machine that has torch and transformers and little else."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import torch

from stillframe.models.hub.fetch import local_folder
from stillframe_lab.evaluation.page import write_json
from stillframe_lab.latency.command import CUDA_MODELS, BenchSettings, knobs_of, models_for, run_bench, trained_flow
from stillframe_lab.latency.race import Watch
from stillframe_lab.latency.report import summary, write_report


def main() -> None:
    """Measure, print, and write what is asked for."""
    given = _arguments()
    device = torch.device(
        "cuda" if given.device == "auto" and torch.cuda.is_available() else given.device.replace("auto", "cpu")
    )
    flow = trained_flow(Path("checkpoints/jaco-tiny-pi0"), Path("configs/jaco-tiny-pi0.yaml"))
    models = tuple(given.model or models_for(device, flow))
    wanted = BenchSettings(
        local_folder(given.checkpoint),
        device,
        knobs_of(given.config),
        models,
        given.quick,
        given.threads,
        given.episodes,
        flow,
    )
    document = run_bench(wanted, _say())
    sys.stdout.write(summary(document))
    if given.json is not None:
        write_json(given.json, document)
    if given.out is not None:
        write_report(given.out, document)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m stillframe_lab.latency")
    parser.add_argument("--checkpoint", type=Path, default=Path("checkpoints/jaco-tiny"))
    parser.add_argument("--config", type=Path, default=Path("configs/jaco-tiny.yaml"))
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--model", action="append", choices=CUDA_MODELS, help="more than once for several")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--episodes", type=int, default=20)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--out", type=Path, help="a folder for JSON, charts and README.md")
    return parser.parse_args()


def _say() -> Watch:
    began_s = time.perf_counter()

    def say(stage: str, done: int, steps: int) -> None:
        sys.stderr.write(f"{time.perf_counter() - began_s:6.1f} s  {stage} {done}/{steps}\n")

    return say


if __name__ == "__main__":
    main()
