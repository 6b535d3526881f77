"""A hub of our own on loopback, that speaks what huggingface_hub asks for, and the goldens as its repositories.

Knows the hub's endpoints; no test.
"""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from huggingface_hub import constants

GOLDENS = Path(__file__).parents[2] / "goldens"
MICRO = GOLDENS / "openvla-micro"
LARGE = 100_000  # bytes, from which on a file is served from another place, as the hub does


@dataclass
class Repository:
    """Its commits' files, and what its branches and tags name."""

    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)

    def commit(self, files: Mapping[str, bytes], *refs: str) -> str:
        """Add one; `main` and `refs` name it from now on."""
        sha = hashlib.sha1(repr(sorted((name, len(data)) for name, data in files.items())).encode()).hexdigest()  # noqa: S324 (git's)
        self.commits[sha] = dict(files)
        self.refs |= dict.fromkeys(("main", *refs), sha)
        return sha

    def at(self, revision: str) -> str | None:
        """The commit that a revision names."""
        return self.refs.get(revision, revision if revision in self.commits else None)


@dataclass
class Hub:
    """What it has, what it was asked, and what it does wrong."""

    repositories: dict[str, Repository] = field(default_factory=dict)
    asked: list[tuple[str, str, str | None]] = field(default_factory=list)  # method, path, token
    refuses: dict[str, tuple[int, str]] = field(default_factory=dict)  # repository -> status, X-Error-Code
    cuts: dict[str, int] = field(default_factory=dict)  # file -> bytes after which its next answers break off
    blobs: dict[str, bytes] = field(default_factory=dict)
    ranges: list[str] = field(default_factory=list)
    url: str = ""

    def publish(self, name: str, files: Mapping[str, bytes], *refs: str) -> str:
        """A commit of repository `name`; its hash."""
        return self.repositories.setdefault(name, Repository()).commit(files, *refs)

    @property
    def fetched(self) -> list[str]:
        """Files whose bytes were sent, by name."""
        return [path for method, path, _ in self.asked if method == "GET" and not path.startswith(("/api/", "/blob/"))]

    @property
    def names(self) -> set[str]:
        """The files that were asked for in any way."""
        return {path.partition("/resolve/")[2].partition("/")[2] for _, path, _ in self.asked if "/resolve/" in path}


class Answers(BaseHTTPRequestHandler):
    """Speaks as the hub does."""

    protocol_version = "HTTP/1.1"
    hub: Hub

    def do_HEAD(self) -> None:
        """As GET, without the bytes."""
        self.do_GET()

    def do_GET(self) -> None:
        """Model information, a listing, a file, or the place that a large file lies in."""
        path = unquote(urlsplit(self.path).path)
        if path == "/api/agent-harnesses":  # the library asks once a day, and of no repository
            return self._send(404, {}, b"{}")
        self.hub.asked.append((self.command, path, self.headers["Authorization"]))
        if path.startswith("/blob/"):
            return self._send_file(path.rpartition("/")[2], self.hub.blobs[path.split("/")[2]])
        _, *words = path.removeprefix("/api/models").split("/")
        name, what, rest = "/".join(words[:2]), *(words[2:3] or ["revision"]), words[3:] or ["main"]
        if name in self.hub.refuses or name not in self.hub.repositories:
            status, code = self.hub.refuses.get(name, (404, "RepoNotFound"))
            return self._send(status, {"X-Error-Code": code} if code else {}, b"{}")
        sha = self.hub.repositories[name].at("/".join(rest) if what == "revision" else rest[0])
        if sha is None:
            return self._send(404, {"X-Error-Code": "RevisionNotFound"}, b"{}")
        files = self.hub.repositories[name].commits[sha]
        if what == "revision":
            return self._json({"id": name, "sha": sha, "siblings": [{"rfilename": file} for file in files]})
        if what == "tree":
            tree = [{"type": "directory", "path": "checkpoints", "oid": "0" * 40, "size": 0}]
            return self._json(
                [
                    *tree,
                    *(
                        {"type": "file", "path": file, "oid": _tag(data), "size": len(data)}
                        for file, data in files.items()
                    ),
                ]
            )
        return self._resolve(sha, "/".join(rest[1:]), files)

    def _resolve(self, sha: str, file: str, files: Mapping[str, bytes]) -> None:
        if file not in files:
            return self._send(404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": sha}, b"")
        if f"file/{file}" in self.hub.refuses:
            return self._send(self.hub.refuses[f"file/{file}"][0], {}, b"")
        data = files[file]
        named = {"ETag": f'"{_tag(data)}"', "X-Repo-Commit": sha}
        if len(data) < LARGE:
            return self._send_file(file, data, named)
        self.hub.blobs[_tag(data)] = data
        linked = {"X-Linked-Etag": f'"{_tag(data)}"', "X-Linked-Size": str(len(data))}
        return self._send(
            302,
            {
                **named,
                **linked,
                "Location": f"{self.hub.url.replace('127.0.0.1', 'localhost')}/blob/{_tag(data)}/{file}",
            },
            b"",
        )

    def _send_file(self, file: str, data: bytes, headers: Mapping[str, str] | None = None) -> None:
        first = int((self.headers["Range"] or "bytes=0-").removeprefix("bytes=").rstrip("-"))
        if first:
            self.hub.ranges.append(self.headers["Range"])
        part = data[first:]
        cut = self.hub.cuts.pop(file, None) if self.command == "GET" else None
        extra = {"Content-Range": f"bytes {first}-{len(data) - 1}/{len(data)}"} if first else {}
        self._send(206 if first else 200, {**(headers or {}), **extra}, part, cut)

    def _json(self, document: object) -> None:
        self._send(200, {"Content-Type": "application/json"}, json.dumps(document).encode())

    def _send(self, status: int, headers: Mapping[str, str], body: bytes, cut: int | None = None) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[:cut])
        self.close_connection = cut is not None

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@functools.cache
def _tag(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture(scope="module")
def _server() -> Iterator[tuple[ThreadingHTTPServer, type[Answers]]]:
    handler = type("Here", (Answers,), {})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server, handler
        server.shutdown()
        thread.join()


@pytest.fixture
def hub(_server: tuple[ThreadingHTTPServer, type[Answers]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    """Empty, and the one that huggingface_hub asks, with a cache and a working directory of this test's own.

    That library reads its environment when it is imported, which may be long ago: its constants are set instead.
    """
    server, handler = _server
    monkeypatch.setattr(logging.getLogger("huggingface_hub"), "handlers", [])  # to a stream that pytest closed
    made = Hub(url=f"http://127.0.0.1:{server.server_port}")
    handler.hub = made
    for name, value in {
        "ENDPOINT": made.url,
        "HUGGINGFACE_CO_URL_TEMPLATE": made.url + "/{repo_id}/resolve/{revision}/{filename}",
        "HF_URL_HOSTS": frozenset({"127.0.0.1"}),
        "HF_HUB_CACHE": str(tmp_path / "cache"),
        "HF_HUB_OFFLINE": False,
        "HF_HUB_DISABLE_XET": True,
        "AGENT_HARNESSES_PATH": str(tmp_path / "harnesses.json"),
        "HF_TOKEN_PATH": str(tmp_path / "token"),
    }.items():
        monkeypatch.setattr(constants, name, value)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return made


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From the call on as with HF_HUB_OFFLINE=1."""
    return lambda: monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


@pytest.fixture(scope="session")
def openvla() -> dict[str, bytes]:
    """A published checkpoint: what is read, and what is not."""
    read = {file.name: file.read_bytes() for file in MICRO.iterdir()}
    others = (
        "modeling_prismatic.py",
        "pytorch_model.bin",
        "README.md",
        ".gitattributes",
        "optimizer.pt",
        "training_args.bin",
    )
    return read | dict.fromkeys(others, b"never asked for")


@pytest.fixture(scope="session")
def oft(openvla: dict[str, bytes]) -> dict[str, bytes]:
    """The same with a head and a projector of the state."""
    return openvla | {file.name: file.read_bytes() for file in (GOLDENS / "oft-micro").iterdir()}


@pytest.fixture(scope="session")
def cogact(openvla: dict[str, bytes]) -> dict[str, bytes]:
    """A run folder, with a tokenizer."""
    files = _folder(GOLDENS / "cogact" / "cogact-micro")
    return files | {"tokenizer.json": openvla["tokenizer.json"], "config.yaml": b"x", "run-metrics.jsonl": b"x"}


@pytest.fixture(scope="session")
def pi05() -> dict[str, bytes]:
    """Openpi's folder, the tokenizer put into it, and what lies there beside."""
    return _folder(GOLDENS / "pi0" / "pi05-micro") | {"assets/README.md": b"x", "optimizer.pt": b"x"}


@pytest.fixture(scope="session")
def pi0() -> dict[str, bytes]:
    """Lerobot's, likewise."""
    openpis = _folder(GOLDENS / "pi0" / "pi0-micro")
    beside = {
        "model.safetensors": openpis["model.safetensors"],
        "tokenizer.model": openpis["paligemma_tokenizer.model"],
    }
    return (
        _folder(GOLDENS / "pi0" / "pi0-micro-lerobot") | beside | {"train_config.json": b"{}", "modeling_pi0.py": b"x"}
    )


def _folder(path: Path) -> dict[str, bytes]:
    return {file.relative_to(path).as_posix(): file.read_bytes() for file in path.rglob("*") if file.is_file()}
