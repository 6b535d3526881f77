"""`stillframe serve`, `healthcheck` and `token`. Parses options; other rooms do the work, imported on use."""

from __future__ import annotations

import hashlib
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stillframe.cli.app import app
from stillframe.daemon.config import TokenSettings, load_config
from stillframe.domain import TokenScope
from stillframe.errors import ConfigError
from stillframe.recording.pictures import PictureFormat

if TYPE_CHECKING:
    from stillframe.daemon.health import DaemonCommand

TOKEN_BYTES = 32  # of randomness in a generated token


@app.command("serve")
def serve_command(
    config: Annotated[Path | None, typer.Argument(help="A YAML such as configs/jaco-tiny.yaml.")] = None,
    checkpoint: Annotated[
        Path | None, typer.Option(help="A checkpoint's folder, or org/name[@revision] of the hub.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, or cuda:1: the second GPU.")] = None,
    dtype: Annotated[str | None, typer.Option(help="auto, float32 or bfloat16.")] = None,
    weights: Annotated[str | None, typer.Option(help="as-is, int8, int8-weight-only, int4-weight-only or fp8.")] = None,
    threads: Annotated[int | None, typer.Option(help="CPU threads for the model.")] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="TCP port; 0 takes a free one.")] = None,
    record: Annotated[Path | None, typer.Option(help="Keep sessions' answered frames in this folder.")] = None,
    record_images: Annotated[
        PictureFormat | None, typer.Option(help="What is kept of their pictures: privacy, disk. Default png.")
    ] = None,
    tls_cert: Annotated[Path | None, typer.Option(help="Certificate chain, PEM; with --tls-key.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Private key of the certificate, PEM.")] = None,
    allow_anonymous: Annotated[
        bool | None, typer.Option("--allow-anonymous", help="Let other machines in without a token.")
    ] = None,
) -> None:
    """Serve a checkpoint over HTTP and WebSocket. Options win over the YAML."""
    from stillframe.cli.early import exit_if_loading
    from stillframe.daemon.logs import open_log
    from stillframe.daemon.serve import serve

    overrides = {
        "checkpoint": checkpoint,
        "device": device,
        "dtype": dtype,
        "weights": weights,
        "threads": threads,
        "host": host,
        "port": port,
        "record": record,
        "record_images": record_images,
        "tls_cert": tls_cert,
        "tls_key": tls_key,
        "allow_anonymous": allow_anonymous,
    }
    serve(load_config(config, overrides), open_log())
    exit_if_loading()


@app.command("healthcheck")
def healthcheck_command(
    config: Annotated[Path | None, typer.Argument(help="The YAML that the daemon serves.")] = None,
    host: Annotated[str | None, typer.Option(help="Address, if it was started with another.")] = None,
    port: Annotated[int | None, typer.Option(help="TCP port, if it was started with another.")] = None,
    *,
    tls: Annotated[
        bool | None, typer.Option("--tls/--no-tls", help="Whether it was started with a certificate.")
    ] = None,
) -> None:
    """Check whether the daemon of CONFIG is ready: exit status 0 if so, 1 if not.

    Without CONFIG and options: the one daemon that runs on this machine, or in this container.
    """
    from stillframe.daemon.health import check_ready, find_daemon

    overrides: dict[str, Any] = {"host": host, "port": port, "allow_anonymous": True}
    if config is None and (host, port, tls) == (None, None, None):
        config, given = _started_with(find_daemon())
        overrides |= given
    if config is None:
        overrides |= {"checkpoint": Path()}
    daemon = load_config(config, {key: value for key, value in overrides.items() if value is not None})
    if tls is not None:
        daemon = daemon.model_copy(update={"tls_cert": Path() if tls else None})
    typer.echo(f"ready: {check_ready(daemon)}")


def _started_with(daemon: DaemonCommand) -> tuple[Path | None, dict[str, Any]]:
    """Parse a running daemon's command line: its YAML, relative to its working directory, and its options."""
    parsed = typer.main.get_command(app).get_command(None, "serve").make_context("serve", list(daemon.words)).params  # type: ignore[attr-defined]
    config = parsed.pop("config")
    return config and daemon.folder / config, parsed


@app.command("token")
def token_command(
    name: Annotated[str, typer.Argument(help="The caller's name: letters, digits, dots, dashes.")],
    scope: Annotated[list[TokenScope] | None, typer.Option(help="act, admin or both; default act.")] = None,
) -> None:
    """Make a token, print it once, and print the YAML lines with its hash that let a daemon accept it."""
    token = secrets.token_urlsafe(TOKEN_BYTES)
    scopes = list(dict.fromkeys(scope or [TokenScope.ACT]))
    try:
        known = TokenSettings(name, hashlib.sha256(token.encode()).hexdigest(), scopes)
    except ValueError as error:
        raise ConfigError(f"the command line: {error}") from error
    typer.echo("# The token, shown this once. Its holder sends 'Authorization: Bearer TOKEN':")
    typer.echo(token)
    typer.echo("# What the daemon knows of it; put this under 'tokens:' in its YAML:")
    typer.echo(f'  - name: "{known.name}"\n    sha256: "{known.sha256}"\n    scopes: [{", ".join(known.scopes)}]')
