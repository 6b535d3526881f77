"""Checks a certificate that is there: its seal, the checkpoint's files, this machine; if asked, its ticks again.

Knows certificates; how one is made is run.py's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from stillframe.daemon.config import DaemonConfig, load_config
from stillframe.errors import StillframeError
from stillframe.tools.certify.certificate import Certificate
from stillframe.tools.certify.facts import FLAGS, digests, versions
from stillframe.tools.certify.run import CertifyOptions, CertifyReporter, certify
from stillframe.tools.machine import cpu_flags, machine

Kind = Literal["ok", "differs", "fails"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. What differs may change answers or times; what fails voids the paper."""

    kind: Kind
    text: str


def check_weights(certificate: Certificate, folder: Path) -> Iterator[Finding]:
    """Digest the files that were certified again."""
    was, now = certificate.checkpoint.files, digests(folder)
    wrong = sorted(name for name in was.keys() | now.keys() if was.get(name) != now.get(name))
    if wrong:
        yield Finding("fails", f"weights: {', '.join(wrong)} of {folder.name} are not what was certified")
    else:
        yield Finding("ok", f"weights: all {len(was)} files of {certificate.checkpoint.name} are those certified")


def check_machine(certificate: Certificate) -> Iterator[Finding]:
    """What is another on this machine. Equality and times were shown on the one that is named."""
    was, found = certificate.machine, machine()
    now = {
        "cpu": found["cpu"],
        "cpu_flags": [flag for flag in FLAGS if flag in cpu_flags()],
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "cores": found["cores"],
    }
    pairs = [(name, getattr(was, name), value) for name, value in now.items()]
    pairs += [(name, certificate.versions.get(name), value) for name, value in versions().items()]
    differ = [(name, one, other) for name, one, other in pairs if one != other]
    yield from (Finding("differs", f"{name}: {_said(one)} there, {_said(other)} here") for name, one, other in differ)
    if not differ:
        yield Finding("ok", "machine and versions: the same")


def deployment_of(certificate: Certificate, folder: Path, overrides: Mapping[str, Any]) -> DaemonConfig:
    """The certified deployment of the checkpoint in `folder`. Raises ConfigError for settings of another version."""
    return load_config(None, {**certificate.settings, **overrides, "checkpoint": folder})


def rerun(
    certificate: Certificate, deployment: DaemonConfig, frames: Path | None, report: CertifyReporter
) -> list[Finding]:
    """Show the same ticks again, and compare what is answered here and now.

    Raises StillframeError for a certificate of a recording that is not at hand, or ticks that are not those certified.
    """
    was = certificate.frames
    if was.kind == "recording" and frames is None:
        raise StillframeError(
            "the certificate is of the frames of a recording: --rerun needs them, with --frames RECORDING"
        )
    options = CertifyOptions(
        was.ticks, frames if was.kind == "recording" else None, was.seed or 0, certificate.robots, certificate.weights
    )
    again = certify(deployment, options, report)
    if again.frames.sha256 != was.sha256:
        raise StillframeError(
            f"the {was.ticks} ticks shown here are not those certified: SHA-256 {again.frames.sha256}, "
            f"{was.sha256} was expected; give the recording that was certified, or compare versions of numpy and pillow"
        )
    return [*_compared(certificate, again)]


def _compared(was: Certificate, now: Certificate) -> Iterator[Finding]:
    """Arm by arm; an answer that is another although nothing else is fails."""
    alike = [*check_machine(was)] == [Finding("ok", "machine and versions: the same")]
    here = {arm.name: arm for arm in now.arms}
    for arm in was.arms:
        other = here.get(arm.name)
        if other is None or arm.answers is None or other.answers is None:
            yield Finding("ok" if other is not None else "differs", f"{arm.name}: not compared")
        elif other.verdict == "broken":
            yield Finding(
                "fails", f"{arm.name}: broken here, at tick {other.answers.broken_ticks[0]}; {arm.verdict} there"
            )
        elif other.answers.sha256 == arm.answers.sha256:
            yield Finding("ok", f"{arm.name}: {other.verdict}; answers as certified, to the bit")
        else:
            kind: Kind = "fails" if alike else "differs"
            yield Finding(
                kind, f"{arm.name}: {other.verdict} here, {arm.verdict} there; answers are not those certified"
            )


def _said(value: object) -> str:
    return ", ".join(map(str, value)) or "none" if isinstance(value, list) else str(value)
