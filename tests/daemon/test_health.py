from __future__ import annotations

import json
import os
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from stillframe.daemon.config import DaemonConfig, load_config
from stillframe.daemon.health import DaemonCommand, check_ready, find_daemon
from stillframe.errors import ConfigError, StillframeError

WAIT_S = 60.0


class Desk(BaseHTTPRequestHandler):
    """Answers /readyz as it is told; remembers who was asked for."""

    status = 200
    body = b"{}"
    hosts: list[str] = []  # noqa: RUF012 -- each test's own class has its own

    def do_GET(self) -> None:
        """Answer, or not."""
        self.hosts.append(str(self.headers["Host"]))
        self.send_response(self.status if self.path == "/readyz" else 404)
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


class Six(HTTPServer):
    """On IPv6."""

    address_family = socket.AF_INET6


@contextmanager
def serving(
    status: int = 200, body: bytes = b"{}", address: str = "127.0.0.1", tls: Path | None = None
) -> Iterator[tuple[int, list[str]]]:
    """A daemon's door: its port, and which hosts it was asked for."""
    desk = type("Answering", (Desk,), {"status": status, "body": body, "hosts": []})
    with (Six if ":" in address else HTTPServer)((address, 0), desk) as server:
        if tls is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(tls)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server.server_address[1], desk.hosts
        finally:
            server.shutdown()
            thread.join(WAIT_S)


def config(**values: object) -> DaemonConfig:
    """A configuration of that daemon."""
    return load_config(None, {"checkpoint": "nowhere", "allow_anonymous": True} | values)


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "", "localhost"])  # noqa: S104 -- asked, never bound
def test_a_ready_daemon_is_ready(host: str) -> None:
    """Bound to every address it is asked on loopback, by a name that every daemon lets in."""
    with serving() as (port, hosts):
        address = check_ready(config(host=host, port=port))

    assert address == f"http://{'localhost' if host == 'localhost' else '127.0.0.1'}:{port}"
    assert hosts == [f"localhost:{port}"]


@pytest.mark.parametrize("host", ["::", "::1", "[::1]"])
def test_a_daemon_on_ipv6_is_asked_there(host: str) -> None:
    """An address with colons has brackets where it is shown."""
    try:
        with serving(address="::1") as (port, _):
            assert check_ready(config(host=host, port=port)) == f"http://[::1]:{port}"
    except OSError:
        pytest.skip("this machine has no IPv6")


def test_a_daemon_that_is_not_ready_says_why() -> None:
    """Its own words, where it has some."""
    body = json.dumps({"detail": "The daemon is loading; ask /readyz again in 1 s."}).encode()
    with serving(503, body) as (port, _), pytest.raises(StillframeError) as caught:
        check_ready(config(port=port))
    with serving(404, b"<html>") as (other, _), pytest.raises(StillframeError) as stranger:
        check_ready(config(port=other))

    assert str(caught.value) == (
        f"http://127.0.0.1:{port} is not ready: 503, The daemon is loading; ask /readyz again in 1 s."
    )
    assert str(stranger.value) == f"http://127.0.0.1:{other} is not ready: 404, Not Found"


def test_a_closed_port_does_not_answer(new_port: Callable[[], int]) -> None:
    """The system's word for it."""
    port = new_port()
    with pytest.raises(StillframeError, match=rf"^http://127\.0\.0\.1:{port} does not answer: .*refused$"):
        check_ready(config(port=port))


def test_who_never_answers_is_not_waited_for() -> None:
    """A daemon that hangs is not ready."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with pytest.raises(StillframeError, match="does not answer: timed out"):
            check_ready(config(port=port), within_s=0.05)


def test_what_speaks_no_http_does_not_answer() -> None:
    """TLS where none was expected, or another program's port."""
    with socket.create_server(("127.0.0.1", 0)) as other:

        def speak() -> None:
            taken, _ = other.accept()
            with taken:
                taken.recv(4096)
                taken.sendall(b"SSH-2.0-x\r\n")

        thread = threading.Thread(target=speak)
        thread.start()
        with pytest.raises(StillframeError, match=r"does not answer: SSH-2\.0-x"):
            check_ready(config(port=other.getsockname()[1]))
        thread.join(WAIT_S)


def test_a_free_port_is_not_guessed() -> None:
    """The log names it."""
    with pytest.raises(ConfigError, match="port is 0, which is another each time; say which it got with --port"):
        check_ready(config(port=0))


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Certificate and key in one file, signed by itself, for a name that is not this machine's."""
    if shutil.which("openssl") is None:
        pytest.skip("the program `openssl` is not installed, and nothing else here makes a certificate")
    both = tmp_path_factory.mktemp("tls") / "both.pem"
    words = [
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-keyout",
        both,
        "-out",
        f"{both}.cert",
        "-subj",
        "/CN=robot.lab",
    ]
    subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True, timeout=WAIT_S)
    both.write_text(both.read_text() + Path(f"{both}.cert").read_text())
    return both


def test_a_daemon_with_tls_is_asked_with_tls(certificate: Path) -> None:
    """Its certificate is for others: from its own machine it is believed."""
    with serving(tls=certificate) as (port, _):
        address = check_ready(config(port=port, tls_cert=certificate, tls_key=certificate))

    assert address == f"https://127.0.0.1:{port}"


def process(folder: Path, number: int, *words: str, cwd: str = "/srv") -> None:
    """A process, as /proc has it."""
    (folder / str(number)).mkdir()
    (folder / str(number) / "cmdline").write_bytes(b"".join(os.fsencode(word) + b"\0" for word in words))
    (folder / str(number) / "cwd").symlink_to(cwd)


def test_the_daemon_of_a_container_is_found(tmp_path: Path) -> None:
    """Whatever starts it, with whatever it was started; other programs are not it, and neither are we."""
    words = ("serve", "mine.yaml", "--port", "9000")
    process(tmp_path, 1, "/sbin/docker-init", "--", "stillframe", *words)
    process(tmp_path, 7, "/opt/stillframe/bin/python", "/opt/stillframe/bin/stillframe", *words)
    process(tmp_path, 8, "python", "-m", "http.server")
    process(tmp_path, 9, "stillframe", "eval", "serve")
    process(tmp_path, os.getpid(), "stillframe", "serve", "other.yaml")
    (tmp_path / "10").mkdir()

    assert find_daemon(tmp_path) == DaemonCommand(Path("/srv"), words[1:])


@pytest.mark.parametrize(("daemons", "said"), [(0, "no daemon runs"), (2, "several daemons run")])
def test_one_daemon_is_asked(tmp_path: Path, daemons: int, said: str) -> None:
    """None, or several that differ: which one is to be named."""
    for number in range(daemons):
        process(tmp_path, 100 + number, "stillframe", "serve", f"{number}.yaml")

    with pytest.raises(ConfigError, match=f"{said} on this machine, .*; name a CONFIG, or --port"):
        find_daemon(tmp_path)


def test_the_commands_status_is_the_daemons(typed: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    """0 and a line on stdout, or 1 and a line on stderr; the YAML's port, another one, or no YAML at all."""
    yaml = tmp_path / "daemon.yaml"
    with serving() as (port, _):
        yaml.write_text(f"checkpoint: x\nhost: 0.0.0.0\nport: {port}\n")  # open, without tokens: asked all the same
        answers = [typed("healthcheck", *words) for words in ((yaml,), ("--port", port), (yaml, "--no-tls"))]
        tls = typed("healthcheck", yaml, "--tls")
    shut = typed("healthcheck", yaml)

    assert answers == [(0, f"ready: http://127.0.0.1:{port}\n", "")] * 3
    assert (tls[0], tls[2].startswith(f"stillframe: https://127.0.0.1:{port} does not answer: ")) == (1, True)
    assert (shut[0], shut[1], shut[2].count("\n")) == (1, "", 1)
    assert shut[2].startswith(f"stillframe: http://127.0.0.1:{port} does not answer: ")


def test_without_a_configuration_the_running_daemon_is_asked(
    typed: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """By its own command line, from the folder that it was started in: options win there too."""
    (tmp_path / "mine.yaml").write_text("checkpoint: x\nport: 1\n")
    with serving() as (port, _):
        begun = DaemonCommand(tmp_path, ("mine.yaml", "--port", str(port), "--host", "0.0.0.0", "--allow-anonymous"))  # noqa: S104
        monkeypatch.setattr("stillframe.daemon.health.find_daemon", lambda: begun)
        answer = typed("healthcheck")

    assert answer == (0, f"ready: http://127.0.0.1:{port}\n", "")
