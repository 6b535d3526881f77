"""Of `check`: asks the daemon what it serves, compares it with this arm, and has it answer a few frames."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Dict, List, Mapping, Optional

import numpy as np

from stillframe_client import PolicyClient
from stillframe_client.errors import PolicyError
from stillframe_client.jaco2.bridge.arm_state import resting_state
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
    actions: Optional[np.ndarray] = None  # [horizon, 7]
    for _ in range(WARM_UP + calls):
        began_s = time.monotonic()
        named = pictures_named(pictures, info.cameras)
        instruction = settings.policy.instruction or "check"
        state = resting_state(info.state)
        reply = client.act_with_report(named, instruction, unnorm_key=settings.policy.unnorm_key, state=state)
        actions = reply.actions
        took_ms.append(1e3 * (time.monotonic() - began_s))
    _judge(took_ms[WARM_UP:], settings.policy, info, findings)
    if actions is not None and actions.shape[1] == 7:
        _judge_actions(actions, settings, findings)


def _judge_actions(actions: np.ndarray, settings: BridgeSettings, findings: Findings) -> None:
    """Of a chunk [horizon, 7], every action is one that may be played."""
    steps = (Step(at, action[:6], float(action[6]), 0.1, 0.0) for at, action in enumerate(actions))
    fault = next(filter(None, (step_fault(step, settings.limits) for step in steps)), None)
    if fault:
        findings.wrong("action", fault)
    else:
        moved, turned = (np.linalg.norm(part, axis=1).max() for part in (actions[:, :3], actions[:, 3:6]))
        findings.ok("action", f"{moved:.4f} m, {turned:.3f} rad")


def _judge(took_ms: List[float], policy: PolicySettings, info: ModelInfo, findings: Findings) -> None:
    p50, p99 = np.percentile(took_ms, (50, 99))
    text = f"answers in {p50:.1f} ms (p50), {p99:.1f} ms (p99), {len(took_ms)} frames"
    most_ms = 1e3 * (policy.answer_s if policy.mode == "lockstep" else policy.answer_age_s)
    name = "policy.answer_s" if policy.mode == "lockstep" else "policy.answer_age_s"
    actions = _actions_while_it_waits(policy, info)
    if p50 > most_ms:
        findings.wrong("latency", f"{text}: most would come too late, {name} is {most_ms:.0f} ms")
    elif p99 > most_ms:
        findings.warning("latency", f"{text}: some would come too late, {name} is {most_ms:.0f} ms")
    elif p50 > 1e3 * actions / policy.hz:
        rate = f"policy.hz {policy.hz:g}" + (f" and {actions} actions at a time" if actions > 1 else "")
        findings.warning("latency", f"{text}: slower than {rate}, so the arm waits between actions")
    else:
        findings.ok("latency", text)


def _actions_while_it_waits(policy: PolicySettings, info: ModelInfo) -> int:
    """How many actions an answer may take: in lockstep those that it buys, in realtime those that are left then."""
    execute = min(policy.execute or info.execute, info.chunk_horizon)
    return max(1, execute if policy.mode == "lockstep" else info.chunk_horizon - execute)
