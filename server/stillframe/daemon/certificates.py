"""Check the TLS certificate and key before a port is opened: that they match, are valid now, and the key is private.

Knows PEM files and as much of X.509 as its dates take; no socket.
"""

from __future__ import annotations

import ssl
import stat
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from stillframe.daemon.config import DaemonConfig
from stillframe.errors import ConfigError
from stillframe.files.kinds import mistaken, shown

EXPECTED = "expected a certificate chain and its own key, both PEM, the key without a password"
MOST_BYTES = 2**20  # a chain has a few KiB
EXPIRY_WARNING = timedelta(days=14)
BEGIN, END = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
MISMATCH_REASONS = {
    "KEY_VALUES_MISMATCH",
    "KEY_TYPE_MISMATCH",
    "NO_CERTIFICATE_ASSIGNED",
}  # OpenSSL's reasons for a key of another certificate
SEQUENCE, UTC_TIME, GENERALIZED_TIME = 0x30, 0x17, 0x18
VERSION = 0xA0


def check_tls(config: DaemonConfig, now: datetime | None = None) -> list[str]:
    """Warnings about certificate and key, a line each; none without TLS.

    Raises ConfigError for a certificate and key that OpenSSL refuses.
    """
    if config.tls_cert is None or config.tls_key is None:
        return []
    cert, key = config.tls_cert, config.tls_key
    texts = [_read(name, file) for name, file in (("tls_cert", cert), ("tls_key", key))]
    try:
        # An empty password: without one OpenSSL would ask the terminal, and wait.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key, password=lambda: "")
    except (OSError, ValueError) as error:
        why = _diagnose(cert, texts[0], key, texts[1], error)
        raise ConfigError(f"cannot use {shown(cert)} with {shown(key)}: {why}; {EXPECTED}") from error
    return [*_date_warnings(cert, texts[0], now or datetime.now(UTC)), *_permission_warning(key)]


def validity(der: bytes) -> tuple[datetime, datetime]:
    """A certificate's validity, first and last moment (RFC 5280, 4.1.2.5). Raises ValueError for other data."""
    certificate = _content(der, SEQUENCE)
    fields = _elements(_content(certificate, SEQUENCE))
    # version (0 to 1 of it), serial number, signature's algorithm, issuer, validity
    tags = [next(fields) for _ in range(4)]
    tag, content = next(fields) if tags[0][0] == VERSION else tags[3]
    if tag != SEQUENCE:
        raise ValueError("no validity where a certificate has it")
    first, last = (_parse_time(*element) for element in _elements(content))
    return first, last


def _read(name: str, file: Path) -> str:
    """A file as ASCII text; other bytes are replaced."""
    try:
        with file.open("rb") as opened:
            return opened.read(MOST_BYTES).decode("ascii", "replace")
    except OSError as error:
        raise ConfigError(f"cannot read {name!r}, {shown(file)}: {error.strerror}; expected a PEM file") from error


def _diagnose(cert: Path, cert_text: str, key: Path, key_text: str, error: Exception) -> str:
    """Explain why OpenSSL refused them, from the contents of both files."""
    for file, text in ((cert, cert_text), (key, key_text)):
        if "-----BEGIN " not in text:
            kind = mistaken(file)
            return f"{shown(file)} {kind or _binary(file, text)}"
    if BEGIN not in cert_text:
        return f"{shown(cert)} holds {_label(cert_text)} and no certificate"
    if "PRIVATE KEY-----" not in key_text:
        return f"{shown(key)} holds {_label(key_text)} and no private key"
    if "ENCRYPTED" in key_text:
        return f"{shown(key)} is locked with a password: unlock it with `openssl pkey -in {shown(key)} -out KEY.pem`"
    reason = getattr(error, "reason", None) or str(error)
    if reason in MISMATCH_REASONS:
        return f"the key is another certificate's, not that of the first one in {shown(cert)}"
    return f"OpenSSL refuses them ({shown(str(reason).lower().replace('_', ' '))})"


def _binary(file: Path, text: str) -> str:
    if text[:1] == "0":  # a DER sequence's first byte, 0x30
        return (
            f"is DER, not PEM: turn it into PEM with `openssl x509 -inform der -in {shown(file)}` (a key: openssl pkey)"
        )
    return "is not PEM: it has no line that begins with -----BEGIN"


def _label(text: str) -> str:
    """The label of a PEM file's first block."""
    return f"a block {shown(text.partition('-----BEGIN ')[2].partition('-----')[0])!r}"


def _date_warnings(file: Path, text: str, now: datetime) -> Iterator[str]:
    """Warnings about certificates of the chain that have expired, soon expire or are not valid yet."""
    for number, block in enumerate(_blocks(text), 1):
        try:
            first, last = validity(ssl.PEM_cert_to_DER_cert(block))
        except (ValueError, StopIteration):
            continue  # OpenSSL accepts it; only its dates cannot be read
        held = f"from {first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M} UTC"
        named = f"{shown(file)}, certificate {number}"
        if now > last:
            yield f"{named} has expired: it held {held}; clients refuse it"
        elif now < first:
            yield f"{named} does not hold yet: {held}; check this machine's clock"
        elif now > last - EXPIRY_WARNING:
            yield f"{named} expires soon: it holds to {last:%Y-%m-%d %H:%M} UTC"


def _blocks(text: str) -> Iterator[str]:
    for part in text.split(BEGIN)[1:]:
        yield f"{BEGIN}{part.partition(END)[0]}{END}"


def _permission_warning(key: Path) -> Iterator[str]:
    """A warning if other accounts of this machine can read the key."""
    mode = stat.S_IMODE(key.stat().st_mode)
    if mode & 0o077:
        yield (
            f"{shown(key)} is open to other accounts of this machine (mode {mode:04o}); a private key is its owner's: "
            "chmod 600"
        )


def _content(der: bytes, expected: int) -> bytes:
    """The content of the first element. Raises ValueError if its tag is not `expected`."""
    tag, content = next(_elements(der))
    if tag != expected:
        raise ValueError(f"tag {tag:#x} where {expected:#x} was expected")
    return content


def _elements(der: bytes) -> Iterator[tuple[int, bytes]]:
    """Tag and content of each element of DER, one after another (X.690, 8.1)."""
    at = 0
    while at + 2 <= len(der):
        tag, length, at = der[at], der[at + 1], at + 2
        if length > 0x80:
            size = length & 0x7F
            length, at = int.from_bytes(der[at : at + size], "big"), at + size
        if at + length > len(der):
            raise ValueError("an element that is longer than what holds it")
        yield tag, der[at : at + length]
        at += length


def _parse_time(tag: int, content: bytes) -> datetime:
    text = content.decode("ascii")
    if tag == UTC_TIME:  # two digits of the year: 50 and above are of the last century
        text = f"{'19' if int(text[:2]) >= 50 else '20'}{text}"
    elif tag != GENERALIZED_TIME:
        raise ValueError(f"tag {tag:#x} where a time was expected")
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)
