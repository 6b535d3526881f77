"""TLS where none is spoken, none where it is, and certificates that are not trusted: each is told with what to do."""

from __future__ import annotations

import contextlib
import shutil
import socket
import ssl
import subprocess
import threading

import numpy as np
import pytest

from stillframe_client import PolicyClient, PolicyError, PolicyStream, Unreachable, WebsocketClientPolicy

PICTURE = np.zeros((2, 2, 3), np.uint8)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """Makes keys and certificates that sign themselves, by name."""
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl command to make a certificate with")
    folder = tmp_path_factory.mktemp("tls")
    for name, subject in (("here", "IP:127.0.0.1"), ("other", "IP:127.0.0.1"), ("elsewhere", "DNS:robots.example")):
        request = f"req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN={name} -addext subjectAltName={subject}"
        files = ["-keyout", str(folder / f"{name}.key"), "-out", str(folder / f"{name}.pem")]
        subprocess.run(["openssl", *request.split(), *files], check=True, capture_output=True)
    return folder


@pytest.fixture
def tls_port(certificates):
    """Starts servers that shake hands as the one of that name, and hang up."""
    running = []

    def start(name):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificates / f"{name}.pem", certificates / f"{name}.key")
        listener = socket.create_server(("127.0.0.1", 0))

        def serve():
            while True:
                try:
                    sock = listener.accept()[0]
                except OSError:
                    return
                with sock:
                    sock.settimeout(10)
                    with contextlib.suppress(OSError):
                        context.wrap_socket(sock, server_side=True).close()

        thread = threading.Thread(target=serve)
        thread.start()
        running.append((listener, thread))
        return listener.getsockname()[1]

    yield start
    for listener, thread in running:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(60)


def post(url, **options):
    with PolicyClient(url, timeout_s=10, **options) as client:
        client.act(PICTURE, "reach")


def stream(url, **options):
    with PolicyStream(url, timeout_s=10, **options) as client:
        client.act(PICTURE, "reach")


@pytest.mark.parametrize("ask", [post, stream])
@pytest.mark.parametrize(
    ("name", "ca_file", "words"),
    [
        ("here", None, r"not trusted.*pass ca_file="),
        ("other", "here", r"not trusted.*another daemon's"),
        ("elsewhere", "elsewhere", r"for another name.*use the name"),
    ],
)
def test_certificates(tls_port, certificates, ask, name, ca_file, words):
    """One that signed itself, another daemon's, one for another name."""
    options = {} if ca_file is None else {"ca_file": str(certificates / f"{ca_file}.pem")}
    with pytest.raises(Unreachable, match=words):
        ask(f"https://127.0.0.1:{tls_port(name)}", **options)


@pytest.mark.parametrize("ask", [post, stream])
def test_tls_to_a_plain_port(liar, ask):
    """A server of plain HTTP says so in bytes that are no handshake."""
    url = liar(lambda talk: (talk.sock.recv(65536), talk.say(b"HTTP/1.1 400 Bad Request\r\n\r\n"))).url
    with pytest.raises(Unreachable, match=r"speaks plain HTTP, not TLS: use (http|ws)://"):
        ask(url.replace("http://", "https://"))


@pytest.mark.parametrize("ask", [post, stream])
def test_plain_http_to_a_tls_port(tls_port, ask):
    """A server of TLS hangs up, or sends an alert: the scheme is the first thing to look at."""
    with pytest.raises(Unreachable, match="https://"):
        ask(f"http://127.0.0.1:{tls_port('here')}")


def test_openpis_shape(tls_port):
    """It waits for a daemon, and then says what it met."""
    with pytest.raises(PolicyError, match=r"not trusted.*ca_file="):
        WebsocketClientPolicy(f"wss://127.0.0.1:{tls_port('here')}", timeout_s=5, wait_s=0.3)


def test_where_nothing_is_wrong(tls_port, certificates):
    """A daemon's own certificate is trusted where it was given: the handshake is not what fails."""
    with pytest.raises(Unreachable, match="broke before the answer: is the daemon up"):
        post(f"https://127.0.0.1:{tls_port('here')}", ca_file=str(certificates / "here.pem"))
