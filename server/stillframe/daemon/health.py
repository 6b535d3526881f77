"""Ask the daemon of a configuration for readiness, from its own machine: a container's health check.

Knows the configuration and one request; nothing of what is served. Imports neither torch nor uvicorn.
"""

from __future__ import annotations

import http.client
import json
import os
import ssl
from dataclasses import dataclass
from pathlib import Path

from stillframe.daemon.config import DaemonConfig
from stillframe.errors import ConfigError, StillframeError
from stillframe.files.kinds import shown

PATH = "/readyz"
WITHIN_S = 2.0  # for each step of the one request
MOST_BYTES = 64 * 2**10  # of the answer
ANY_ADDRESS = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 -- bound address -> address to connect to


@dataclass(frozen=True)
class DaemonCommand:
    """How a daemon on this machine was started."""

    folder: Path  # its working directory
    words: tuple[str, ...]  # its command line after `serve`


def check_ready(config: DaemonConfig, within_s: float = WITHIN_S) -> str:
    """The daemon's address if it is ready. Raises StillframeError, in one line, if not."""
    if config.port == 0:
        raise ConfigError("port is 0, which is another each time; say which it got with --port, as the log names it")
    bare = config.host.strip("[]")
    host = ANY_ADDRESS.get(bare, bare)
    scheme = "http" if config.tls_cert is None else "https"
    address = f"{scheme}://{f'[{host}]' if ':' in host else host}:{config.port}"
    try:
        status, text = _request(_connection(scheme, host, config.port, within_s), config.port)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise StillframeError(f"{address} does not answer: {shown(error) or type(error).__name__}") from error
    if status != http.client.OK:
        raise StillframeError(f"{address} is not ready: {status}, {shown(text)}")
    return address


def find_daemon(processes: Path = Path("/proc")) -> DaemonCommand:
    """How the one daemon on this machine or in this container was started. ConfigError for none or several."""
    found = {
        one
        for folder in processes.glob("[0-9]*")
        if folder.name != str(os.getpid()) and (one := _daemon_command(folder))
    }
    if len(found) != 1:
        many = "several daemons run" if found else "no daemon runs"
        raise ConfigError(f"{many} on this machine, as far as can be seen; name a CONFIG, or --port")
    return found.pop()


def _connection(scheme: str, host: str, port: int, within_s: float) -> http.client.HTTPConnection:
    if scheme == "http":
        return http.client.HTTPConnection(host, port, timeout=within_s)
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusting.check_hostname = False  # the same machine; the certificate is for the name that other machines use
    trusting.verify_mode = ssl.CERT_NONE
    return http.client.HTTPSConnection(host, port, timeout=within_s, context=trusting)


def _request(connection: http.client.HTTPConnection, port: int) -> tuple[int, str]:
    """Status, and the detail of a problem."""
    try:
        # Every daemon accepts a loopback name as Host.
        connection.request("GET", PATH, headers={"Host": f"localhost:{port}", "Connection": "close"})
        answer = connection.getresponse()
        return answer.status, _detail(answer.read(MOST_BYTES), answer.reason)
    finally:
        connection.close()


def _detail(body: bytes, reason: str) -> str:
    try:
        return str(json.loads(body)["detail"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return reason


def _daemon_command(process: Path) -> DaemonCommand | None:
    """A process's command, if it is a daemon and readable."""
    try:
        words = [os.fsdecode(word) for word in (process / "cmdline").read_bytes().split(b"\0")[:-1]]
        places = [n for n in range(1, len(words)) if words[n] == "serve" and Path(words[n - 1]).name == "stillframe"]
        return DaemonCommand((process / "cwd").readlink(), tuple(words[places[0] + 1 :])) if places else None
    except OSError:
        return None
