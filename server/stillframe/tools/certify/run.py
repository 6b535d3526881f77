"""Runs a certificate: loads the checkpoint, opens the arms, shows them the ticks, and puts the figures together.

Knows the order of work; how answers are compared is compare.py's, what is said of the machine facts.py's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from stillframe.daemon.config import DaemonConfig
from stillframe.daemon.serve import open_model
from stillframe.domain import PolicyInfo, WeightScheme
from stillframe.errors import ConfigError
from stillframe.models.base import PolicyModel
from stillframe.recording.reader import read_episodes
from stillframe.tools.certify.arm import WARM_UP_TICKS, Arm
from stillframe.tools.certify.arms import AGAIN, PLAIN, ArmSpec, arm_specs
from stillframe.tools.certify.certificate import ArmResult, Certificate, FrameFacts
from stillframe.tools.certify.compare import CHUNK_BOUND, RULE
from stillframe.tools.certify.facts import (
    checkpoint_facts,
    load_average,
    machine_facts,
    runs_on_one_thread,
    settings_of,
    versions,
)
from stillframe.tools.certify.results import absent, result
from stillframe.tools.certify.ticks import Tick, digest, recorded_ticks, scene_ticks
from stillframe.tools.certify.trial import Trial, run_trials
from stillframe.tools.replay.player import PlayerSettings

NO_GPU = "no CUDA device"


class CertifyReporter(Protocol):
    """Hears how far it is. Implemented by cli.progress.StageBar."""

    def stage(self, name: str, steps: int) -> None:
        """The next stage begins."""
        ...

    def advance(self) -> None:
        """One step of it is done."""
        ...

    def say(self, line: str) -> None:
        """Something that has to be known."""
        ...


@dataclass(frozen=True)
class CertifyOptions:
    """What is asked for beside the deployment."""

    ticks: int = 60  # at most, of a recording
    frames: Path | None = None  # a recording; None: a scene
    seed: int = 0  # of the scene
    robots: int = 4  # frames in one pass of the batched arm
    weights: Sequence[WeightScheme] = ()  # quantised kinds, each an arm


def certify(deployment: DaemonConfig, options: CertifyOptions, report: CertifyReporter) -> Certificate:
    """Certify a deployment whose checkpoint is a folder. Raises StillframeError for what cannot be answered.

    A promise that is broken is no error here: the certificate says so.
    """
    report.stage("load", 1)
    model = open_model(deployment.model_copy(update={"weights": "as-is"}))
    info = model.info
    resolved = deployment.model_copy(update={"device": info.device, "dtype": info.dtype})
    ticks = _ticks(resolved, options, info, report)
    kinds = [*dict.fromkeys(options.weights)]
    specs = arm_specs(resolved, info, options.robots, kinds)
    opened = _open(specs, resolved, model)
    trials = {name: Trial(arm) for name, arm in opened.items() if isinstance(arm, Arm)}
    report.stage("certify", len(ticks))
    before = load_average()
    run_trials([*trials.values()], ticks, info, report.advance)
    loads = [before, load_average()]
    reasons = {name: why for name, why in opened.items() if isinstance(why, str)}
    results = _results(specs, trials, reasons, info)
    report.stage("digest", 1)
    return Certificate(
        made=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        checkpoint=checkpoint_facts(deployment.checkpoint, info),
        machine=machine_facts(info, loads),
        versions=versions(),
        settings=settings_of(resolved),
        robots=options.robots,
        weights=kinds,
        frames=FrameFacts(
            kind="recording" if options.frames else "scene",
            seed=None if options.frames else options.seed,
            ticks=len(ticks),
            sha256=digest(ticks),
        ),
        rule=[*RULE],
        bound=CHUNK_BOUND[info.dtype],
        warm_up_ticks=WARM_UP_TICKS,
        arms=results,
        broken=any(one.verdict == "broken" for one in results),
    )


def _ticks(deployment: DaemonConfig, options: CertifyOptions, info: PolicyInfo, report: CertifyReporter) -> list[Tick]:
    shown = PlayerSettings(
        unnorm_key=deployment.unnorm_key, cameras=deployment.cameras or {}, center_crop=deployment.center_crop
    )
    if options.frames is None:
        return scene_ticks(info, shown, options.ticks, options.seed)
    return recorded_ticks(read_episodes(options.frames, report.say), info, shown, options.ticks, report.say)


def _open(specs: Sequence[ArmSpec], deployment: DaemonConfig, model: PolicyModel) -> dict[str, Arm | str]:
    """Name -> the arm, or why it cannot be had here. Each kind of weights is loaded once."""
    models: dict[WeightScheme, PolicyModel | str] = {"as-is": model}
    return {spec.name: _one(spec, deployment, models) for spec in specs}


def _one(spec: ArmSpec, deployment: DaemonConfig, models: dict[WeightScheme, PolicyModel | str]) -> Arm | str:
    if spec.graphs and not deployment.device.startswith("cuda"):
        return NO_GPU
    if spec.graphs and not deployment.graphs.enabled:
        return "graphs.enabled is false"
    if spec.weights not in models:
        models[spec.weights] = _quantised(deployment, spec.weights)
    model = models[spec.weights]
    if isinstance(model, str):
        return model
    arm = Arm(spec, model, deployment)
    return arm.absent or arm


def _quantised(deployment: DaemonConfig, kind: WeightScheme) -> PolicyModel | str:
    """The checkpoint with such weights, or why this device or build cannot have them."""
    try:
        return open_model(deployment.model_copy(update={"weights": kind}))
    except ConfigError as error:
        return str(error)


def _results(
    specs: Sequence[ArmSpec], trials: Mapping[str, Trial], reasons: Mapping[str, str], info: PolicyInfo
) -> list[ArmResult]:
    """Every arm's, in the order of the specs."""
    bound, repeatable = CHUNK_BOUND[info.dtype], all(one.equal for one in trials[AGAIN].ticks)
    plain, one_thread = trials[PLAIN].ticks, runs_on_one_thread(info)
    results = []
    for spec in specs:
        if spec.name in reasons:
            results.append(absent(spec, reasons[spec.name]))
            continue
        ticks, sha256 = trials[spec.name].ticks, trials[spec.name].sha256
        judged = spec.name == AGAIN or repeatable  # the repetition itself is held to what it promises
        results.append(
            result(
                spec,
                ticks,
                sha256,
                info.action_names,
                bound=bound,
                repeatable=judged,
                plain=plain,
                one_thread=one_thread,
            )
        )
    return results
