from __future__ import annotations

import logging
import shutil
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

from stillframe.daemon import serve
from stillframe.daemon.certificates import EXPIRY_WARNING, check_tls, validity
from stillframe.daemon.config import DaemonConfig, load_config
from stillframe.errors import ConfigError

WAIT_S = 60.0
EXPECTED = "expected a certificate chain and its own key, both PEM, the key without a password"
MINUTE = timedelta(minutes=1)


def config(**values: object) -> DaemonConfig:
    """A configuration on a free port."""
    return load_config(None, {"checkpoint": Path("nowhere"), "port": 0} | values)


def openssl(*words: object) -> bytes:
    """Run one command of OpenSSL's."""
    return subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True, timeout=WAIT_S).stdout


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """Files made for this run: a certificate, its key, both as DER, that key locked, another key, a request."""
    if shutil.which("openssl") is None:
        pytest.skip("the program `openssl` is not installed, and nothing else here makes a certificate")
    folder = tmp_path_factory.mktemp("tls")
    names = ("cert", "key", "locked", "other", "rsa", "request", "cert_der", "key_der")
    made = SimpleNamespace(**{name: folder / f"{name}.pem" for name in names})
    for key in (made.key, made.other):
        openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-out", key)
    openssl("genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", made.rsa)
    openssl("req", "-x509", "-key", made.key, "-out", made.cert, "-subj", "/CN=localhost", "-days", "100")
    openssl("req", "-new", "-key", made.key, "-out", made.request, "-subj", "/CN=localhost")
    openssl("x509", "-in", made.cert, "-outform", "der", "-out", made.cert_der)
    openssl("pkey", "-in", made.key, "-outform", "der", "-out", made.key_der)
    openssl("pkey", "-in", made.key, "-aes256", "-passout", "pass:word", "-out", made.locked)
    return made


@pytest.fixture
def closed(pem: SimpleNamespace) -> Iterator[SimpleNamespace]:
    """The key as its owner's alone."""
    pem.key.chmod(0o600)
    yield pem
    pem.key.chmod(0o600)


def told(pem: SimpleNamespace, now: datetime | None = None) -> list[str]:
    """What there is to know of the good pair."""
    return check_tls(config(tls_cert=pem.cert, tls_key=pem.key), now)


def dates(pem: SimpleNamespace) -> tuple[datetime, datetime]:
    """From when until when it holds, by OpenSSL's word."""
    said = openssl("x509", "-in", pem.cert, "-noout", "-startdate", "-enddate").decode()
    first, last = (line.partition("=")[2] for line in said.splitlines())
    return tuple(datetime.strptime(text, "%b %d %H:%M:%S %Y GMT").replace(tzinfo=UTC) for text in (first, last))  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("cert", "key", "said"),
    [
        ("cert", "locked", "{key} is locked with a password: unlock it with `openssl pkey -in {key} -out KEY.pem`"),
        ("cert", "other", "the key is another certificate's, not that of the first one in {cert}"),
        ("cert", "rsa", "the key is another certificate's, not that of the first one in {cert}"),
        ("cert", "cert", "{key} holds a block 'CERTIFICATE' and no private key"),
        ("key", "key", "{cert} holds a block 'PRIVATE KEY' and no certificate"),
        ("key", "cert", "{cert} holds a block 'PRIVATE KEY' and no certificate"),
        ("request", "key", "{cert} holds a block 'CERTIFICATE REQUEST' and no certificate"),
        ("cert_der", "key", "{cert} is DER, not PEM: turn it into PEM with `openssl x509 -inform der -in {cert}`"),
        ("cert", "key_der", "{key} is DER, not PEM: "),
    ],
)
def test_a_certificate_that_no_connection_could_use_is_refused(
    pem: SimpleNamespace, cert: str, key: str, said: str
) -> None:
    """Before anything loads, without asking a terminal for a password: which of the two is what."""
    files = {"cert": getattr(pem, cert), "key": getattr(pem, key)}
    with pytest.raises(ConfigError) as caught:
        check_tls(config(tls_cert=files["cert"], tls_key=files["key"]))

    assert str(caught.value).startswith(f"cannot use {files['cert']} with {files['key']}: {said.format(**files)}")
    assert str(caught.value).endswith(f"; {EXPECTED}")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty (0 bytes)"),
        (b"not PEM", "is not PEM: it has no line that begins with -----BEGIN"),
        (b"<!DOCTYPE html>", "is a web page (HTML)"),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "OpenSSL refuses them ("),
    ],
)
def test_a_file_that_holds_no_certificate(closed: SimpleNamespace, tmp_path: Path, content: bytes, said: str) -> None:
    """What it holds, or what OpenSSL says."""
    (tmp_path / "cert.pem").write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        check_tls(config(tls_cert=tmp_path / "cert.pem", tls_key=closed.key))

    assert said in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("missing", ["tls_cert", "tls_key"])
def test_a_file_of_tls_that_cannot_be_read_is_named(tmp_path: Path, missing: str) -> None:
    """Which key, which file, and why."""
    (tmp_path / "there.pem").write_text("not PEM")
    files = {"tls_cert": tmp_path / "there.pem", "tls_key": tmp_path / "there.pem"} | {missing: tmp_path / "gone.pem"}

    with pytest.raises(ConfigError, match=f"cannot read '{missing}', .*gone.pem: No such file or directory"):
        check_tls(config(**files))


def test_without_tls_there_is_nothing_to_check() -> None:
    """The default is plain HTTP."""
    assert check_tls(config()) == []


def test_what_holds_needs_no_word(closed: SimpleNamespace) -> None:
    """From the first moment to two weeks before the last."""
    first, last = dates(closed)

    assert told(closed) == []
    assert told(closed, first) == told(closed, last - EXPIRY_WARNING) == []


def test_an_expired_certificate_is_warned_of_with_its_dates(closed: SimpleNamespace) -> None:
    """And one that soon will be, and one that does not hold yet."""
    first, last = dates(closed)
    from_to = f"from {first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M} UTC"

    assert told(closed, last + MINUTE) == [
        f"{closed.cert}, certificate 1 has expired: it held {from_to}; clients refuse it"
    ]
    assert told(closed, last - MINUTE) == [
        f"{closed.cert}, certificate 1 expires soon: it holds to {last:%Y-%m-%d %H:%M} UTC"
    ]
    assert told(closed, first - MINUTE) == [
        f"{closed.cert}, certificate 1 does not hold yet: {from_to}; check this machine's clock"
    ]


def test_every_certificate_of_a_chain_is_looked_at(closed: SimpleNamespace, tmp_path: Path) -> None:
    """Clients refuse a chain for its weakest link."""
    chain = tmp_path / "chain.pem"
    chain.write_text(f"bag attributes\n{closed.cert.read_text()}\n{closed.cert.read_text()}")
    warnings = check_tls(config(tls_cert=chain, tls_key=closed.key), dates(closed)[1] + MINUTE)

    assert [line.partition(" has expired")[0] for line in warnings] == [f"{chain}, certificate {n}" for n in (1, 2)]


@pytest.mark.parametrize(
    ("mode", "open_to_others"), [(0o600, False), (0o400, False), (0o640, True), (0o604, True), (0o666, True)]
)
def test_a_key_that_others_can_read_is_warned_of(closed: SimpleNamespace, mode: int, *, open_to_others: bool) -> None:
    """With its mode and what to do."""
    closed.key.chmod(mode)
    said = [
        f"{closed.key} is open to other accounts of this machine (mode {mode:04o}); a private key is its owner's: "
        "chmod 600"
    ]

    assert told(closed) == said * open_to_others


def test_the_log_has_the_warnings(closed: SimpleNamespace, caplog: pytest.LogCaptureFixture) -> None:
    """Before the daemon loads; it serves all the same, so a checkpoint that is not there is what ends it."""
    closed.key.chmod(0o666)
    served = config(tls_cert=closed.cert, tls_key=closed.key, checkpoint=closed.cert.parent / "none")
    with caplog.at_level(logging.WARNING, "tls-test"), pytest.raises(Exception, match="is not a folder"):
        serve.serve(served, logging.getLogger("tls-test"))

    assert any(line.startswith(f"tls: {closed.key} is open to other accounts") for line in caplog.messages)


def element(tag: int, content: bytes) -> bytes:
    """One element of DER."""
    size = len(content)
    length = bytes([size]) if size < 128 else bytes([0x82]) + size.to_bytes(2, "big")
    return bytes([tag]) + length + content


@pytest.mark.parametrize("version", [b"", element(0xA0, element(2, b"\x02"))])
@pytest.mark.parametrize(
    ("first", "last", "expected"),
    [
        (element(0x17, b"490101000000Z"), element(0x18, b"20500101000000Z"), (2049, 2050)),
        (element(0x17, b"500101000000Z"), element(0x18, b"99991231235959Z"), (1950, 9999)),
    ],
)
def test_dates_of_both_forms_are_read(version: bytes, first: bytes, last: bytes, expected: tuple[int, int]) -> None:
    """Two digits of a year up to 2049, four beyond; certificates of the first version have no number of it."""
    fields = (
        version + element(2, b"\x01") + element(0x30, b"") + element(0x30, b"\x00" * 300) + element(0x30, first + last)
    )

    assert tuple(moment.year for moment in validity(element(0x30, element(0x30, fields)))) == expected


@pytest.mark.parametrize(
    "der", [b"0", b"\x30\x03\x02\x01", b"\x30\x02\x30\x00", b"\x02\x01\x01", b"\x30\x82\xff\xff\x00"]
)
def test_what_is_no_certificate_has_no_dates(der: bytes) -> None:
    """Cut short, empty, or something else."""
    with pytest.raises((ValueError, StopIteration)):
        validity(der)
