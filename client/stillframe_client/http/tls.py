"""Explains why a TLS handshake failed, and what to do.

Knows no connection.
"""

from __future__ import annotations

import ssl
from typing import Optional

_OTHER_NAME = (62, 64)  # X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH
_PLAIN = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNKNOWN_PROTOCOL", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG")


def tls_failure(error: Optional[BaseException]) -> Optional[ssl.SSLError]:
    """The TLS library's own error behind a connection's; None where it failed for another reason."""
    while error is not None and not isinstance(error, ssl.SSLError):
        error = error.__cause__ or error.__context__
    return error


def untrusted(error: ssl.SSLError, url: str) -> str:
    """The words for a handshake with `url` that ended in `error`."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return _certificate(error, url)
    if (error.reason or "") in _PLAIN:
        plain = url.replace("wss://", "ws://").replace("https://", "http://")
        return f"What answers at {url} speaks plain HTTP, not TLS: use {plain.split('://')[0]}:// in the address."
    return f"The TLS handshake with {url} failed ({type(error).__name__}): is that a daemon's TLS port?"


def _certificate(error: ssl.SSLCertVerificationError, url: str) -> str:
    why = error.verify_message or "it is not trusted"
    if error.verify_code in _OTHER_NAME:
        return f"The certificate of {url} is for another name ({why}): use the name or address that it was made for."
    return (
        f"The certificate of {url} is not trusted ({why}): if the daemon signed it itself, pass ca_file= with the PEM "
        "file of its certificate; if you did, it is another daemon's."
    )
