"""`stillframe certify`. Parses options; other rooms do the work, imported on use."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast, get_args

import typer

from stillframe.cli.app import app
from stillframe.cli.deployment import deployment_of
from stillframe.cli.output import write_text
from stillframe.daemon.checkpoint import with_local_checkpoint
from stillframe.domain import WeightScheme
from stillframe.errors import ConfigError, StillframeError, closest

if TYPE_CHECKING:
    from stillframe.daemon.config import DaemonConfig
    from stillframe.tools.certify.certificate import Certificate
    from stillframe.tools.certify.check import Finding
    from stillframe.tools.certify.run import CertifyOptions

QUANTISED = [kind for kind in get_args(WeightScheme) if kind != "as-is"]
MOST_TICKS = 10_000  # their pictures are held in memory


@app.command("certify")
def certify_command(
    checkpoint: Annotated[
        Path, typer.Argument(help="A checkpoint's folder, its id on the hub, or the YAML of a deployment.")
    ],
    frames: Annotated[
        Path | None, typer.Option(help="Show the frames of this recording; default a scene that is drawn.")
    ] = None,
    ticks: Annotated[int, typer.Option(min=1, max=MOST_TICKS, help="At most so many frames.")] = 60,
    seed: Annotated[int, typer.Option(min=0, help="Of the scene.")] = 0,
    robots: Annotated[int, typer.Option(min=2, max=64, help="Sessions in one pass of the batched arm.")] = 4,
    weights: Annotated[
        list[str] | None,
        typer.Option(help="Certify these quantised weights too: each loads the checkpoint once more."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The JSON; a page of the same name, .md, lies beside it.")] = None,
    check: Annotated[Path | None, typer.Option(help="Make none: check this one against the checkpoint.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, or cuda:1: the second GPU.")] = None,
    dtype: Annotated[str | None, typer.Option(help="auto, float32 or bfloat16.")] = None,
    threads: Annotated[int | None, typer.Option(help="CPU threads for the model.")] = None,
    *,
    rerun: Annotated[bool, typer.Option("--rerun", help="With --check: show the same ticks again.")] = False,
) -> None:
    """Write how far accelerated answers are from the plain ones on this machine, and how long each way takes.

    The exit status is 1 where an arm that promises equality is further off than that, or a check fails.
    """
    from stillframe.tools.certify.run import CertifyOptions

    if rerun and check is None:
        raise ConfigError("--rerun goes with --check FILE.json: it shows the ticks of that certificate again")
    overrides = {"device": device, "dtype": dtype, "threads": threads}
    asked = deployment_of(checkpoint, overrides)
    deployment = with_local_checkpoint(asked)
    if check is not None:
        given = {key: value for key, value in overrides.items() if value is not None}
        _check(check, deployment.checkpoint, frames, given, rerun=rerun)
        return
    options = CertifyOptions(ticks, frames, seed, robots, [_kind(kind) for kind in weights or []])
    _make(deployment, options, out or Path(f"{asked.checkpoint.name}-certificate.json"))


def _kind(name: str) -> WeightScheme:
    if name not in QUANTISED:
        raise ConfigError(f"--weights {name}: expected {', '.join(QUANTISED)}.{closest(name, QUANTISED)}")
    return cast("WeightScheme", name)


def _make(deployment: DaemonConfig, options: CertifyOptions, out: Path) -> None:
    from stillframe.cli.progress import StageBar
    from stillframe.tools.calibration.output import check_writable
    from stillframe.tools.certify.certificate import sealed
    from stillframe.tools.certify.page import page, verdict_line
    from stillframe.tools.certify.run import certify

    beside = out.with_suffix(".md")
    check_writable(out, beside)
    with StageBar() as bar:
        made = certify(deployment, options, bar)
    typer.echo(verdict_line(made))
    write_text(out, sealed(made))
    write_text(beside, page(made, out.name))
    typer.echo(out)
    typer.echo(beside)
    _raise_if_broken(made)


def _check(file: Path, folder: Path, frames: Path | None, overrides: Mapping[str, object], *, rerun: bool) -> None:
    from stillframe.cli.progress import StageBar
    from stillframe.tools.certify import check
    from stillframe.tools.certify.certificate import read_certificate
    from stillframe.tools.certify.page import verdict_line

    certificate = read_certificate(file)
    typer.echo(f"seal: whole; {verdict_line(certificate)}")
    findings = [*check.check_weights(certificate, folder), *check.check_machine(certificate)]
    _tell(findings)
    if rerun:
        deployment = check.deployment_of(certificate, folder, overrides)
        with StageBar() as bar:
            compared = check.rerun(certificate, deployment, frames, bar)
        _tell(compared)
        findings += compared
    failed = [finding.text for finding in findings if finding.kind == "fails"]
    if failed:
        raise StillframeError(f"{file}: " + "; ".join(failed))
    _raise_if_broken(certificate)


def _tell(findings: list[Finding]) -> None:
    for finding in findings:
        typer.echo(f"{finding.kind}: {finding.text}")


def _raise_if_broken(certificate: Certificate) -> None:
    from stillframe.tools.certify.page import broken_lines

    if certificate.broken:
        raise StillframeError("; ".join(broken_lines(certificate)))
