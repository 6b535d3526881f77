"""Of `check`: asks the daemon what it serves, compares it with this arm, and has it answer a few frames."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Dict, List, Mapping, Optional

import numpy as np

from stillframe_client import PolicyClient
from stillframe_client.errors import PolicyError
from stillframe_client.jaco2.bridge.contract import contract_faults, pictures_named, warnings
from stillframe_client.jaco2.bridge.secret import read_token
from stillframe_client.jaco2.config import ConfigError
from stillframe_client.jaco2.core.checks import step_fault
from stillframe_client.jaco2.domain import Step

if TYPE_CHECKING:
    from stillframe_client.jaco2.cameras.base import Picture
    from stillframe_client.jaco2.cli.findings import Findings
    from stillframe_client.jaco2.settings import BridgeSettings, PolicySettings
    from stillframe_client.replies import ModelInfo

PART = "daemon"
READY_S = 5.0
WARM_UP = 2  # frames, not counted


def check_daemon(settings: BridgeSettings, pictures: Mapping[str, Picture], calls: int, findings: Findings) -> None:
    """Say whether it is ready, what it serves, whether that fits, and how fast it answers these pictures."""
    policy = settings.policy
    try:
        client = PolicyClient(
            policy.url,
            timeout_s=policy.give_up_s,
            encoding=policy.encoding,
            reuse=policy.reuse,
            token=read_token(policy.token),
            ca_file=policy.ca_file,
        )
    except (ValueError, ConfigError) as error:
        findings.wrong(PART, str(error))
        return
    with client:
        try:
            _ask(client, settings, pictures, calls, findings)
        except (PolicyError, ValueError) as error:
            findings.wrong(PART, f"{policy.url}: {error}")


def _ask(
    client: PolicyClient, settings: BridgeSettings, pictures: Mapping[str, Picture], calls: int, findings: Findings
) -> None:
    client.wait_ready(READY_S)
    info = client.info()
    findings.ok(PART, f"{settings.policy.url} serves {info.name} ({info.family}), chunks of {info.chunk_horizon}")
    faults = contract_faults(info, settings)
    for fault in faults:
        findings.wrong("contract", fault)
    for warning in warnings(info, settings):
        findings.warning("contract", warning)
    if faults:
        return
    findings.ok("contract", "cameras, actions, units and gripper fit")
    if len(pictures) < len(settings.cameras):
        findings.warning(PART, "not asked about a frame: not every camera gave one")
        return
    _latency(client, info, settings, dict(pictures), calls, findings)


def _latency(
    client: PolicyClient,
    info: ModelInfo,
    settings: BridgeSettings,
    pictures: Dict[str, Picture],
    calls: int,
    findings: Findings,
) -> None:
    took_ms: List[float] = []
    action: Optional[np.ndarray] = None
    for _ in range(WARM_UP + calls):
        began_s = time.monotonic()
        named = pictures_named(pictures, info.cameras)
        instruction = settings.policy.instruction or "check"
        action = client.act(named, instruction, unnorm_key=settings.policy.unnorm_key)
        took_ms.append(1e3 * (time.monotonic() - began_s))
    _judge(took_ms[WARM_UP:], settings.policy, findings)
    if action is not None and len(action) == 7:
        fault = step_fault(Step(0, action[:6], float(action[6]), 0.1, 0.0), settings.limits)
        if fault:
            findings.wrong("action", fault)
        else:
            findings.ok("action", f"{np.linalg.norm(action[:3]):.4f} m, {np.linalg.norm(action[3:6]):.3f} rad")


def _judge(took_ms: List[float], policy: PolicySettings, findings: Findings) -> None:
    p50, p99 = np.percentile(took_ms, (50, 99))
    text = f"answers in {p50:.1f} ms (p50), {p99:.1f} ms (p99), {len(took_ms)} frames"
    most_ms = 1e3 * (policy.answer_s if policy.mode == "lockstep" else policy.answer_age_s)
    name = "policy.answer_s" if policy.mode == "lockstep" else "policy.answer_age_s"
    if p50 > most_ms:
        findings.wrong("latency", f"{text}: most would come too late, {name} is {most_ms:.0f} ms")
    elif p99 > most_ms:
        findings.warning("latency", f"{text}: some would come too late, {name} is {most_ms:.0f} ms")
    elif p50 > 1e3 / policy.hz:
        findings.warning("latency", f"{text}: slower than policy.hz {policy.hz:g}, so the arm waits between actions")
    else:
        findings.ok("latency", text)
