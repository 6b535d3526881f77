"""What an operator wants to know of a daemon that has started: what it serves, with what, to which callers, and where.

Knows the configuration, the sockets and the policy's own word; writes nothing. No token is in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from stillframe.daemon.config import DaemonConfig
from stillframe.daemon.sockets import BoundSocket
from stillframe.domain import KVUsage, PolicyInfo
from stillframe.models.graphs.gpu_budget import MIB, mib


def start_summary(
    config: DaemonConfig, sockets: Sequence[BoundSocket], info: PolicyInfo, usage: KVUsage
) -> Mapping[str, str]:
    """Facts in words, by their names; `sockets`: the daemon's own first."""
    return {
        "model": f"{info.source or info.name} ({info.family}), {info.parameters:,} parameters",
        "device": f"{info.device}, {info.dtype}, weights {info.weights}, batch invariant: {info.batch_invariant}",
        "memory": _memory(info, usage),
        "reuse": f"{config.reuse.mode}; draft {info.draft}; older frames: {'on' if info.history.enabled else 'off'}",
        "listening": ", ".join(f"{bound.address} ({bound.listener.profile})" for bound in sockets),
        "access": _access(config),
        "recording": "off" if config.record is None else f"{config.record}, pictures: {config.record_images}",
        "shadow": _shadow(config),
        "look": _places(config, sockets[0].address),
    }


def _memory(info: PolicyInfo, usage: KVUsage) -> str:
    each = usage.budget_bytes / max(1, usage.slots) / MIB
    pool = f"KV {mib(usage.budget_bytes)}: {usage.slots} sessions of {each:.1f} MiB"
    budget = info.history.budget_bytes
    history = "" if budget is None else f", and {budget / MIB:.1f} MiB of older frames for each"
    return f"weights {mib(info.weight_bytes)}, {pool}{history}"


def _access(config: DaemonConfig) -> str:
    tls = "TLS" if config.tls_cert is not None else "no TLS"
    if config.tokens:
        return f"tokens of {', '.join(token.name for token in config.tokens)}; {tls}"
    return f"no token, {'this machine only' if config.one_caller else 'any machine that reaches it'}; {tls}"


def _shadow(config: DaemonConfig) -> str:
    shadow = config.shadow
    return "off" if shadow.checkpoint is None else f"{shadow.checkpoint}, {shadow.share:.0%} of sessions' frames"


def _places(config: DaemonConfig, address: str) -> str:
    live = [f"{address}/ in a browser", f"stillframe top {address}"] if config.live.enabled else []
    return ", ".join([*live, f"{address}/metrics"])
