"""`stillframe bench`: race the models, measure the roofline, close the loop, make one document.

Knows all of this room; the terminal only as a callback.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import transformers
import yaml

from stillframe.errors import ConfigError, closest
from stillframe.models.checkpoint import CheckpointFolder
from stillframe.reuse.pruning_settings import FastVSettings, SparseVLMSettings, ToMeSettings
from stillframe.reuse.settings import AdaptiveSettings, PaperSettings, ReuseSettings
from stillframe.stopwatch import Clock
from stillframe.tools.machine import instruction_set, machine, slug
from stillframe_lab.latency import closed_loop
from stillframe_lab.latency.figures import Figures, rows_of
from stillframe_lab.latency.flow_sizes import FLOW_SIZES, HALF, RandomFlowFolder
from stillframe_lab.latency.race import RaceLimits, Variant, Watch, race
from stillframe_lab.latency.roofline import measure_roofline, rates_of
from stillframe_lab.latency.scene import Scene, load_scene
from stillframe_lab.latency.sizes import SIZES, RandomFolder, load_from
from stillframe_lab.latency.stock import STOCK, stock_decoder
from stillframe_lab.latency.stock_compiled import COMPILED, compile_refusal
from stillframe_lab.latency.variants import (
    ALL,
    CHUNK_VARIANTS,
    FLOW_VARIANTS,
    HIT,
    OFF,
    STILLFRAME_VARIANTS,
    ModelSpec,
    VariantSpec,
    build_variants,
)

TRAINED, MIDDLE, CHUNK, FULL = "jaco-tiny", "1024x16", "oft-1024x16", "7b"
TRAINED_FLOW, FLOW = "jaco-tiny-pi0", HALF.name
CPU_MODELS = (TRAINED, TRAINED_FLOW, MIDDLE, CHUNK, FLOW)
CUDA_MODELS = (*CPU_MODELS, FULL)
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
LIMITS = {
    TRAINED: RaceLimits(120, 90.0),
    TRAINED_FLOW: RaceLimits(120, 90.0),
    MIDDLE: RaceLimits(7, 300.0, warm_up=2),
    CHUNK: RaceLimits(7, 300.0, warm_up=2),
    FLOW: RaceLimits(7, 300.0, warm_up=2),
    FULL: RaceLimits(20, 150.0),
}
QUICK_LIMITS = {
    TRAINED: RaceLimits(20, 5.0),
    TRAINED_FLOW: RaceLimits(20, 5.0),
    MIDDLE: RaceLimits(3, 1.0, warm_up=1),
    CHUNK: RaceLimits(3, 1.0, warm_up=1),
    FLOW: RaceLimits(3, 1.0, warm_up=1),
    FULL: RaceLimits(5, 10.0),
}
QUICK_ROWS = (OFF, HIT, ALL)  # of a model of random weights
SECTIONS = {
    "adaptive": AdaptiveSettings,
    "paper": PaperSettings,
    "fastv": FastVSettings,
    "sparsevlm": SparseVLMSettings,
    "tome": ToMeSettings,
}
OWN_ROWS = {CHUNK: CHUNK_VARIANTS, FLOW: FLOW_VARIANTS, TRAINED_FLOW: FLOW_VARIANTS}


@dataclass(frozen=True)
class TrainedPolicy:
    """A checkpoint of weights that mean something."""

    checkpoint: Path
    knobs: ReuseSettings  # of its deployment


@dataclass(frozen=True)
class BenchSettings:
    """What to measure, and on which device."""

    checkpoint: Path  # of the trained policy
    device: torch.device
    knobs: ReuseSettings  # of the trained policy's deployment
    models: tuple[str, ...]
    quick: bool = False
    threads: int = 1
    episodes: int = 20  # of the closed loop, each way; 0: none
    flow: TrainedPolicy | None = None  # the trained pi0, for its model

    def trained(self, model: str) -> TrainedPolicy | None:
        """The policy of a model that is not of random weights."""
        return {TRAINED: TrainedPolicy(self.checkpoint, self.knobs), TRAINED_FLOW: self.flow}.get(model)

    @property
    def clock(self) -> Clock:
        """CPU time where one thread does all the work, so that other processes do not count; else wall time."""
        return time.thread_time if self.device.type == "cpu" and self.threads == 1 else time.perf_counter


def knobs_of(file: Path) -> ReuseSettings:
    """Read a deployment's section `reuse` without checking the others. Raises ConfigError."""
    try:
        section = yaml.safe_load(file.read_text(encoding="utf-8"))["reuse"]
        return ReuseSettings(
            **{key: SECTIONS[key](**value) if key in SECTIONS else value for key, value in section.items()}
        )
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"{file}: {error}; expected a deployment's YAML with a section `reuse`") from error


def run_bench(wanted: BenchSettings, watch: Watch) -> Figures:
    """Measure all that is wanted. Raises StillframeError for an invalid checkpoint."""
    _check(wanted)
    torch.set_num_threads(wanted.threads)
    scene = load_scene()
    watch("roofline", 0, 1)
    roofline = measure_roofline([*DTYPES.values()], wanted.device, wanted.clock)
    rows = [row for model in wanted.models for row in _raced(model, wanted, roofline, scene, watch)]
    return {
        "device": device_name(wanted.device),
        "machine": _machine(wanted),
        "quick": wanted.quick,
        "roofline": roofline,
        "rows": rows,
        "left_out": _left_out(wanted),
        "closed_loop": _closed_loop(wanted, watch),
    }


def _check(wanted: BenchSettings) -> None:
    """Raise ConfigError for an unknown model, before minutes are spent."""
    for model in wanted.models:
        if model not in LIMITS:
            raise ConfigError(f"--model {model}: expected {', '.join(LIMITS)}.{closest(model, LIMITS)}")
    if TRAINED_FLOW in wanted.models and wanted.flow is None:
        raise ConfigError(f"--model {TRAINED_FLOW}: the checkpoint is not here; run it from the repository's root")


def models_for(device: torch.device, flow: TrainedPolicy | None = None) -> tuple[str, ...]:
    """The default models; the trained pi0 where there is one."""
    every = CUDA_MODELS if device.type == "cuda" else CPU_MODELS
    return tuple(model for model in every if flow is not None or model != TRAINED_FLOW)


def trained_flow(checkpoint: Path, config: Path) -> TrainedPolicy | None:
    """The trained pi0 with its deployment's knobs; None where it is not there."""
    return TrainedPolicy(checkpoint, knobs_of(config)) if checkpoint.is_dir() and config.is_file() else None


def device_name(device: torch.device) -> str:
    """The device's name in file names: nvidia-h200, amd-epyc-avx512, intel-xeon-processor-amx.

    A CPU's has what it multiplies by beside its model, for figures of two kinds are never mixed.
    """
    if device.type == "cuda":
        return slug(torch.cuda.get_device_name(device))
    return slug(f"{machine()['cpu']} {instruction_set()}")


def _raced(model: str, wanted: BenchSettings, roofline: Mapping[str, Any], scene: Scene, watch: Watch) -> list[Figures]:
    """All rows of one model, every dtype in the same race."""
    dtypes = _dtypes(model, wanted, roofline)
    watch(f"{model}: loading", 0, 1)
    with TemporaryDirectory(prefix="stillframe-bench-") as folder:
        specs = [_model_spec(model, dtype, wanted, Path(folder)) for dtype in dtypes]
        variants: list[Variant] = [one for spec in specs for one in build_variants(spec, scene, wanted.clock)]
    limits = (QUICK_LIMITS if wanted.quick else LIMITS)[model]

    def named(stage: str, done: int, steps: int) -> None:
        watch(f"{model}: {stage}", done, steps)

    raced = race(variants, scene, limits, wanted.clock, time.perf_counter, named)
    del variants
    gc.collect()
    return rows_of(model, raced, {dtype: rates_of(roofline, dtype) for dtype in dtypes})


def _dtypes(model: str, wanted: BenchSettings, roofline: Mapping[str, Any]) -> Sequence[str]:
    """Both; for 7b bfloat16 alone, and in a quick run of random weights the faster one."""
    if model == FULL:
        return ("bfloat16",)
    if wanted.quick and wanted.trained(model) is None:
        return (max(DTYPES, key=lambda dtype: rates_of(roofline, dtype).flops_per_s),)
    return (*DTYPES,)


def _model_spec(model: str, dtype: str, wanted: BenchSettings, folder: Path) -> ModelSpec:
    trained = wanted.trained(model)
    return ModelSpec(
        folder=_random_folder(model, folder) if trained is None else CheckpointFolder(trained.checkpoint),
        dtype=DTYPES[dtype],
        device=wanted.device,
        knobs=ReuseSettings() if trained is None else trained.knobs,
        rows=tuple(_rows(model, quick=wanted.quick)),
        variants=not wanted.quick or trained is not None,
        compiled=not wanted.quick,
    )


def _random_folder(model: str, folder: Path) -> CheckpointFolder:
    return RandomFlowFolder(folder, FLOW_SIZES[model]) if model in FLOW_SIZES else RandomFolder(folder, SIZES[model])


def _rows(model: str, *, quick: bool) -> Iterator[VariantSpec]:
    for row in OWN_ROWS.get(model, STILLFRAME_VARIANTS):
        if not quick or (row.quick and (model == TRAINED or model in OWN_ROWS or row.name in QUICK_ROWS)):
            yield row


def _machine(wanted: BenchSettings) -> dict[str, Any]:
    capability = torch.backends.cpu.get_cpu_capability()
    return {
        **machine(),
        "cpu_capability": capability,
        "instruction_set": instruction_set(),
        "device": torch.cuda.get_device_name(wanted.device) if wanted.device.type == "cuda" else "cpu",
        "threads": wanted.threads,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "clock": "CPU time of the computing thread" if wanted.clock is time.thread_time else "wall",
    }


def _left_out(wanted: BenchSettings) -> dict[str, str]:
    """Rows that this machine cannot show, and why."""
    why = None if wanted.quick else compile_refusal(wanted.device)
    return {} if why is None else {COMPILED: why}


def _closed_loop(wanted: BenchSettings, watch: Watch) -> dict[str, Any]:
    """The closed loop, or why it was skipped."""
    if wanted.quick or not wanted.episodes or TRAINED not in wanted.models:
        return {"skipped": "not asked for"}
    problem = closed_loop.missing()
    if problem is not None:
        return {"skipped": f"no simulator here ({problem})"}
    folder, dtype = CheckpointFolder(wanted.checkpoint), torch.float32
    model = load_from(folder, dtype=dtype, device=wanted.device)
    llama = stock_decoder(folder, model.decoder.config, dtype=dtype, device=wanted.device)
    players: dict[str, closed_loop.Player] = {
        STOCK: closed_loop.StockPlayer(model, llama),
        closed_loop.OURS: closed_loop.StillframePlayer(model, wanted.knobs, wanted.clock),
    }
    return closed_loop.play_all(players, wanted.episodes, wanted.clock, watch)
