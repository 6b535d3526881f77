"""Recognises a file that is not what its name says: a Git LFS pointer, a web page, an archive, an empty file.

Knows first bytes and sizes; no checkpoint and no YAML. Opens a file for its first bytes only.
"""

from __future__ import annotations

import re
from pathlib import Path

HEAD_BYTES = 512
SHOWN = 200  # characters of a path or a value in an error
FETCH = "fetch it again, for example with `hf download ORG/NAME --local-dir FOLDER`"

LFS, ANNEX = b"version https://git-lfs.github.com/spec/", b"/annex/objects/"
MAGIC = {
    b"GGUF": "a GGUF file, as llama.cpp reads them",
    b"PK\x03\x04": "a ZIP archive: torch.save writes such ones, with a pickle in it that is never opened here",
    b"\x1f\x8b": "compressed by gzip: unpack it first",
    b"BZh": "compressed by bzip2: unpack it first",
    b"\xfd7zXZ": "compressed by xz: unpack it first",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive: unpack it first",
    b"\x28\xb5\x2f\xfd": "compressed by zstd: unpack it first",
    b"\x89HDF": "an HDF5 file, as Keras writes them",
    b"\x93NUMPY": "a NumPy array",
    b"%PDF": "a PDF",
    b"\x89PNG": "a picture (PNG)",
    b"\xff\xd8\xff": "a picture (JPEG)",
    b"\xff\xfe": "text in UTF-16: save it in UTF-8",
    b"\xfe\xff": "text in UTF-16: save it in UTF-8",
    b"-----BEGIN ": "a PEM file",
}
PICKLE = re.compile(rb"\x80[\x02-\x05]|\(lp\d|\(dp\d|c[a-z_.]+\n[A-Za-z_]+\n")
PAGE = re.compile(rb"\s*<(?:!doctype|html|head|body|!--)", re.IGNORECASE)
XML = re.compile(rb"\s*<\?xml|\s*<Error>")


def mistaken(file: Path) -> str | None:
    """What `file` is instead of a model's file, and what to do; None where it may be one."""
    try:
        size = file.stat().st_size
        with file.open("rb") as opened:
            head = opened.read(HEAD_BYTES)
    except OSError:
        return None
    return _empty(head, size) or _pointer(head, size) or _page(head) or _other(head)


def shown(thing: object) -> str:
    """A path or a value for messages: printable, cut in the middle where it is long."""
    text = str(thing).encode("utf-8", "backslashreplace").decode()
    text = text if len(text) <= SHOWN else f"{text[: SHOWN // 2]}...{text[-SHOWN // 2 :]}"
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


def _empty(head: bytes, size: int) -> str | None:
    if size == 0:
        return f"is empty (0 bytes): its download never came or the disk was full; {FETCH}"
    if not head.strip(b"\0"):
        return f"begins with zeros: room was made for {size} bytes that never came; {FETCH}"
    return None


def _pointer(head: bytes, size: int) -> str | None:
    if head.startswith(LFS):
        found = re.search(rb"\nsize (\d{1,18})\s", head)
        whole = f"the file of {int(found[1])} bytes" if found else "the file"
        return (
            f"is a Git LFS pointer of {size} bytes in place of {whole}: run `git lfs install && git lfs pull` "
            "in that folder"
        )
    if ANNEX in head and size <= HEAD_BYTES:
        return "is a git-annex pointer in place of the file: run `git annex get .` in that folder"
    return None


def _page(head: bytes) -> str | None:
    if PAGE.match(head):
        return f"is a web page (HTML), which was saved in place of the file; {FETCH}"
    if XML.match(head):
        return f"is XML, such as a server's error that was saved in place of the file; {FETCH}"
    return None


def _other(head: bytes) -> str | None:
    for magic, what in MAGIC.items():
        if head.startswith(magic):
            return f"is {what}"
    if PICKLE.match(head):
        return "is a Python pickle, which can run code and is never opened here"
    return "is a tar archive: unpack it first" if head[257:262] == b"ustar" else None


def words(file: Path) -> str | None:
    """The first line of a file that is plain text where a binary one belongs: a server's 'Entry not found'."""
    try:
        with file.open("rb") as opened:
            head = opened.read(80)
        text = head.decode("ascii")
    except (OSError, UnicodeDecodeError):
        return None
    plain = bool(text) and all(letter.isprintable() or letter in "\r\n\t" for letter in text)
    return f"is text, which begins {text.splitlines()[0][:60]!r}; {FETCH}" if plain and text.strip() else None
