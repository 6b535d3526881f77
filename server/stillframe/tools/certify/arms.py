"""Arms: the ways of answering that a certificate compares with the plain one, and what each promises.

Knows a deployment's settings; no model and no frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from stillframe.daemon.config import DaemonConfig
from stillframe.domain import PolicyInfo, ReuseMode, WeightScheme
from stillframe.engine.settings import DecodingSettings
from stillframe.reuse.settings import ReuseSettings

# equal: to the bit. as reported: to the bit where the answer says `bit_equal`, else within rounding. rounding: within
# it. none: nothing but that its drift is told.
Promise = Literal["equal", "as reported", "rounding", "none"]

PLAIN = "plain"
AGAIN = "plain, again"


@dataclass(frozen=True)
class ArmSpec:
    """One way of answering."""

    name: str
    about: str
    promise: Promise
    decoding: DecodingSettings
    reuse: ReuseSettings
    robots: int = 1  # frames in one pass
    graphs: bool = False  # passes are replayed from CUDA graphs
    weights: WeightScheme = "as-is"
    keeps_vision: bool = True  # an equal picture skips the towers, as in a daemon's session


def arm_specs(
    deployment: DaemonConfig, info: PolicyInfo, robots: int, weights: Sequence[WeightScheme]
) -> list[ArmSpec]:
    """All arms, the plain one first; `info` of the plain checkpoint as it was loaded, `robots`: of the batched arm."""
    on_gpu = info.device != "cpu"
    plain, off = replace(deployment.decoding, draft="off"), _pooled(deployment.reuse, "off")
    same_kernels: Promise = "equal" if info.batch_invariant else "rounding"
    alone = ArmSpec(
        PLAIN, "dense, alone, no guesses, no graphs, weights as they are", "equal", plain, off, keeps_vision=False
    )
    return [
        alone,
        replace(alone, name=AGAIN, about="the same once more", promise="rounding" if on_gpu else "equal"),
        replace(
            alone,
            name="drafts exact",
            about="tokens are guessed, each the likeliest of the pass that verified it",
            promise="as reported",
            decoding=replace(plain, draft="exact"),
            keeps_vision=True,
        ),
        replace(
            alone,
            name="drafts strict",
            about="tokens are guessed, and do not depend on the guesses",
            decoding=replace(plain, draft="strict"),
            keeps_vision=True,
        ),
        replace(
            alone,
            name="reuse exact",
            about="keys and values are kept where that cannot change the answer",
            promise=same_kernels,
            reuse=_pooled(deployment.reuse, "exact"),
            keeps_vision=True,
        ),
        replace(
            alone,
            name="reuse adaptive",
            about="keys and values are kept of what did not move and does not matter",
            promise="none",
            reuse=_pooled(deployment.reuse, "adaptive"),
            keeps_vision=True,
        ),
        replace(
            alone,
            name="batched",
            about=f"in one pass with the frames of {robots - 1} other sessions",
            promise="as reported",
            robots=robots,
            keeps_vision=True,
        ),
        replace(alone, name="graphs", about="passes are replayed from CUDA graphs", promise="rounding", graphs=True),
        _served(deployment, info, on_gpu=on_gpu),
        *(
            replace(
                alone, name=f"weights {kind}", about="the decoder's weights quantised", promise="none", weights=kind
            )
            for kind in weights
        ),
    ]


def _served(deployment: DaemonConfig, info: PolicyInfo, *, on_gpu: bool) -> ArmSpec:
    """What the deployment's sessions get, alone on the device."""
    mode, draft = deployment.reuse.mode, deployment.decoding.draft
    promise: Promise = "as reported" if mode == "off" or info.batch_invariant else "rounding"
    if on_gpu and deployment.graphs.enabled:
        promise = "rounding"
    if mode not in ("off", "exact") or draft == "relaxed" or deployment.weights != "as-is":
        promise = "none"
    return ArmSpec(
        "as served",
        f"all as configured: drafts {draft}, reuse {mode}, weights {deployment.weights}",
        promise,
        deployment.decoding,
        _pooled(deployment.reuse, mode),
        graphs=on_gpu and deployment.graphs.enabled,
        weights=deployment.weights,
    )


def _pooled(reuse: ReuseSettings, mode: ReuseMode) -> ReuseSettings:
    """A deployment's settings in one mode, with room for an arm's own sessions and no more."""
    return replace(reuse, mode=mode, kv_budget_mib=None)
