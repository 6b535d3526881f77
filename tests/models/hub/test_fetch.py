from __future__ import annotations

import errno
import io
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load_file, save_file

from stillframe.errors import CheckpointError
from stillframe.models.hub.fetch import local_folder
from stillframe.models.hub.ids import HubId, snapshot_id
from stillframe.models.hub.repository import HubRepository
from stillframe.models.registry import FILES, open_folder

if TYPE_CHECKING:
    from conftest import Hub  # type: ignore[import-not-found]

Files = dict[str, bytes]
UNREAD = b"never asked for"
SMALL = {"config.json", "preprocessor_config.json", "dataset_statistics.json", "tokenizer.json"}
READ = {
    "openvla": SMALL | {"model.safetensors"},
    "oft": SMALL | {"model.safetensors", "action_head--0_checkpoint.pt", "proprio_projector--0_checkpoint.pt"},
    "cogact": {"config.json", "dataset_statistics.json", "tokenizer.json", "checkpoints/CogACT-Micro.pt"},
}


@pytest.fixture
def tiny(folder: Path) -> Files:
    """A published checkpoint of a few kilobytes."""
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def refused(checkpoint: str) -> str:
    """What fetching says: one line."""
    with pytest.raises(CheckpointError) as caught:
        local_folder(Path(checkpoint))
    assert str(caught.value).isprintable()
    return str(caught.value)


@pytest.mark.parametrize("family", READ)
def test_what_the_family_reads_is_fetched_once_and_nothing_else(
    hub: Hub,
    family: str,
    request: pytest.FixtureRequest,
    offline: Callable[[], None],
    capfd: pytest.CaptureFixture[str],
) -> None:
    """No code, no pickle that is not read; then the hub is asked for its commit alone, and offline nothing is asked."""
    files = request.getfixturevalue(family)
    commit = hub.publish("lab/policy", files)
    folder = local_folder(Path("lab/policy"))

    assert hub.names == READ[family]
    assert {name: (folder / name).read_bytes() for name in READ[family]} == {name: files[name] for name in READ[family]}
    assert open_folder(folder)[0] == {"oft": "openvla_oft"}.get(family, family)
    assert str(snapshot_id(folder)) == f"lab/policy@{commit}"
    assert capfd.readouterr() == ("", "")  # no terminal, no bar

    hub.asked.clear()
    assert local_folder(Path("lab/policy")) == folder
    assert [path for _, path, _ in hub.asked] == ["/api/models/lab/policy"]
    hub.asked.clear()
    assert local_folder(Path(f"lab/policy@{commit}")) == folder
    offline()
    assert local_folder(Path("lab/policy")) == folder
    assert hub.asked == []


def test_a_terminal_gets_a_bar(hub: Hub, tiny: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the library's; where all is in the cache there is none."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stderr", Terminal())
    hub.publish("lab/policy", tiny)
    local_folder(Path("lab/policy"))

    assert "Fetching 4 files" in sys.stderr.getvalue()
    monkeypatch.setattr(sys, "stderr", Terminal())
    local_folder(Path("lab/policy"))
    assert sys.stderr.getvalue() == ""


def test_only_shards_that_the_index_names(hub: Hub, tiny: Files, folder: Path) -> None:
    """And a shard that it names and the repository lacks is missed before anything large is fetched."""
    tensors = load_file(folder / "model.safetensors")
    shards = {"model-1-of-2.safetensors": [*tensors][::2], "model-2-of-2.safetensors": [*tensors][1::2]}
    for shard, names in shards.items():
        save_file({name: tensors[name] for name in names}, folder / shard)
        tiny[shard] = (folder / shard).read_bytes()
    index = {"weight_map": {name: shard for shard, names in shards.items() for name in names}}
    tiny |= {"model.safetensors.index.json": json.dumps(index).encode(), "model-3-of-2.safetensors": b"old"}
    hub.publish("lab/sharded", tiny)

    assert hub.names == set()
    assert open_folder(local_folder(Path("lab/sharded")))[0] == "openvla"
    assert hub.names == SMALL | {*shards, "model.safetensors.index.json"}

    hub.asked.clear()
    commit = hub.publish("lab/torn", {name: data for name, data in tiny.items() if name != "model-2-of-2.safetensors"})
    assert f"lab/torn@{commit} lacks model-2-of-2.safetensors; found: " in refused("lab/torn")
    assert hub.names == {"config.json", "model.safetensors.index.json"}


def test_a_revision_is_what_it_names(hub: Hub, tiny: Files) -> None:
    """A tag and a commit stay; a branch moves, and the next start goes with it."""
    first = hub.publish("lab/policy", tiny, "v1")
    old = local_folder(Path("lab/policy"))
    second = hub.publish("lab/policy", tiny | {"dataset_statistics.json": tiny["dataset_statistics.json"] + b"\n"})

    assert old.name == first != second
    assert local_folder(Path("lab/policy")).name == second
    assert local_folder(Path("lab/policy@v1")).name == local_folder(Path(f"lab/policy@{first}")).name == first


def test_all_files_are_of_one_commit(hub: Hub, tiny: Files) -> None:
    """Though the branch moves while they are fetched."""
    first = hub.publish("lab/policy", tiny)
    repository = HubRepository(HubId("lab/policy"))
    repository.fetch(["config.json"])
    hub.publish("lab/policy", dict.fromkeys(tiny, b"another's"))
    repository.fetch(["config.json", "tokenizer.json"])

    assert repository.folder.name == first
    assert (repository.folder / "tokenizer.json").read_bytes() == tiny["tokenizer.json"]


def test_a_folder_of_that_name_wins(hub: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And what cannot be an id, or lies where folders of one's own do, is never asked for: not even the library is."""
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    shutil.copytree(folder, "lab/policy")
    Path("lab/file").write_bytes(b"")
    Path("lab/gone").symlink_to("nowhere")

    for path in ("lab/policy", "lab/file", "lab/gone", "checkpoints/jaco-tiny", "/nowhere/at/all", "policy", ""):
        assert local_folder(Path(path)) == Path(path)
    assert hub.asked == []


@pytest.mark.parametrize(
    ("refuses", "said"),
    [
        ((403, "GatedRepo"), "lab/policy is gated: accept its terms at {url}/lab/policy with your account"),
        ((401, "GatedRepo"), "lab/policy is gated: accept its terms at {url}/lab/policy with your account"),
        ((404, "RepoNotFound"), "{url} has no repository lab/policy, or a private one; check the name"),
        ((401, ""), "{url} has no repository lab/policy, or a private one; check the name"),
        ((403, ""), "{url} refuses lab/policy with status 403; expected access: `hf auth login`, or HF_TOKEN"),
        ((500, ""), "{url} answers lab/policy with status 500; try again later"),
    ],
)
def test_a_refusal_says_what_to_do(hub: Hub, refuses: tuple[int, str], said: str) -> None:
    """In one line, with the other reading of the name: a folder that is not here."""
    hub.refuses["lab/policy"] = refuses
    Path("lab/polizy").mkdir(parents=True)

    text = refused("lab/policy")
    assert text.startswith(said.format(url=hub.url))
    assert text.endswith("(lab/policy is not a folder here either. Did you mean 'polizy'?)")


def test_an_unknown_revision_is_named(hub: Hub, tiny: Files) -> None:
    """Nothing is fetched."""
    hub.publish("lab/policy", tiny)

    assert f"lab/policy has no revision 'v9' at {hub.url}; expected a branch, a tag" in refused("lab/policy@v9")
    assert hub.names == set()


def test_without_a_network(hub: Hub, tiny: Files, monkeypatch: pytest.MonkeyPatch, offline: Callable[[], None]) -> None:
    """The cache is enough; without it the error names what failed, and offline what the cache lacks."""
    hub.publish("lab/policy", tiny)
    folder = local_folder(Path("lab/policy"))
    hub.asked.clear()
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")

    assert local_folder(Path("lab/policy")) == folder
    text = refused("lab/other")
    assert "lab/other cannot be fetched from http://127.0.0.1:9, and the cache does not have all of it" in text
    assert "check the network, the proxy and HF_ENDPOINT" in text
    offline()
    text = refused("lab/other@v1")
    assert text.startswith(f"HF_HUB_OFFLINE is set, and the cache {constants.HF_HUB_CACHE} lacks lab/other@v1; unset")
    assert "`hf download lab/other --revision v1`" in text
    (folder / "model.safetensors").unlink()
    assert f"the cache {constants.HF_HUB_CACHE} lacks model.safetensors of lab/policy; unset it" in refused(
        "lab/policy"
    )
    assert hub.asked == []


def test_a_cache_without_a_listing(
    hub: Hub, tiny: Files, offline: Callable[[], None], caplog: pytest.LogCaptureFixture
) -> None:
    """Others leave such ones: offline its files are taken to be all, with a warning, unless one is missed."""
    hub.publish("lab/policy", tiny)
    folder = local_folder(Path("lab/policy"))
    copied = Path(shutil.copytree(folder.parents[1], folder.parents[2] / "models--lab--copied", symlinks=True))
    shutil.rmtree(copied / "trees")
    offline()

    assert local_folder(Path("lab/copied")) == copied / "snapshots" / folder.name
    assert "the files that the cache has are taken to be all" in caplog.text
    (copied / "snapshots" / folder.name / "model.safetensors").unlink()
    assert "lacks lab/copied; unset it, or run" in refused("lab/copied")
    assert f"(lab/copied@{folder.name} lacks model.safetensors; found: " in refused("lab/copied")


def test_a_download_that_breaks_off_goes_on(hub: Hub, openvla: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the connection breaks, from the byte after the last that came."""
    monkeypatch.setattr("huggingface_hub.file_download.time", SimpleNamespace(sleep=lambda _: None))
    hub.publish("lab/policy", openvla)
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1_000_000)
    hub.cuts["model.safetensors"] = 5_000_000
    folder = local_folder(Path("lab/policy"))

    assert hub.ranges == ["bytes=5000000-"]
    assert (folder / "model.safetensors").read_bytes() == openvla["model.safetensors"]


def test_a_download_that_failed_goes_on_with_what_is_missing(hub: Hub, tiny: Files) -> None:
    """At the next start: files that are complete stay, and what is there of the others is no checkpoint."""
    hub.publish("lab/policy", tiny)
    hub.refuses["file/tokenizer.json"] = (403, "")

    assert "refuses lab/policy with status 403" in refused("lab/policy")
    hub.refuses.clear()
    before = {*hub.fetched}
    hub.asked.clear()
    folder = local_folder(Path("lab/policy"))
    assert f"/lab/policy/resolve/{folder.name}/tokenizer.json" in hub.fetched
    assert not before & {*hub.fetched}
    assert {file.name for file in folder.iterdir()} == SMALL | {"model.safetensors"}


def test_a_full_disk_is_noticed_before_and_while(hub: Hub, tiny: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the room that it takes, and where else to put it; a cache that cannot be written to likewise."""
    hub.publish("lab/policy", tiny)
    usage = shutil.disk_usage("/")
    with monkeypatch.context() as patched:
        patched.setattr(shutil, "disk_usage", lambda _: usage._replace(free=3))
        assert "GB left; make room (`hf cache rm` removes what is not needed), or set HF_HOME" in refused("lab/policy")
        assert hub.names == set()
    for code, said in (
        (errno.ENOSPC, "is full, so lab/policy cannot be fetched"),
        (errno.EROFS, "cannot be written to"),
    ):
        monkeypatch.setattr("huggingface_hub.file_download.http_get", failing(OSError(code, "no")))
        assert f"the cache {constants.HF_HUB_CACHE} {said}" in refused("lab/policy")


def failing(error: Exception) -> Callable[..., None]:
    """A function that raises it."""

    def fail(*_: object, **__: object) -> None:
        raise error

    return fail


def test_a_token_goes_to_the_hub_and_no_further(hub: Hub, openvla: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    """Large files lie with others, who are not told."""
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    hub.publish("lab/policy", openvla)
    local_folder(Path("lab/policy"))

    assert {token for _, path, token in hub.asked if not path.startswith("/blob/")} == {"Bearer hf_secret"}
    assert {token for _, path, token in hub.asked if path.startswith("/blob/")} == {None}


@pytest.mark.parametrize(
    ("family", "add", "drop", "said"),
    [
        ("openvla", ["pytorch_model.bin"], "model.safetensors", "its weights are pickles (pytorch_model.bin)"),
        ("openvla", ["vision_backbone--5_checkpoint.pt"], "", "is an OpenVLA-OFT checkpoint with FiLM"),
        ("openvla", ["policy_preprocessor.json"], "", "is a policy of lerobot"),
        ("openvla", ["adapter_config.json"], "", "holds a LoRA adapter"),
        ("openvla", [], "preprocessor_config.json", "lacks preprocessor_config.json; found: "),
        ("cogact", [], "dataset_statistics.json", "lacks dataset_statistics.json; found: "),
        ("cogact", [], "tokenizer.json", "has no tokenizer, neither tokenizer.json nor tokenizer.model"),
        ("openvla", [], "config.json", "lacks config.json; found: dataset_statistics.json"),
        ("oft", ["action_head--9.pt"], "", "has action_head in action_head--0_checkpoint.pt and in action_head--9.pt"),
        ("cogact", ["checkpoints/b.pt"], "", "/checkpoints holds the weights CogACT-Micro.pt, b.pt; expected one file"),
        ("cogact", [], "checkpoints/CogACT-Micro.pt", "holds the weights none; expected one file that ends in .pt"),
    ],
)  # fmt: skip
def test_what_is_not_served_is_refused_before_its_weights_come(
    hub: Hub, request: pytest.FixtureRequest, family: str, add: list[str], drop: str, said: str
) -> None:
    """By names and config.json, in the words that a folder on disk gets."""
    files = {name: data for name, data in request.getfixturevalue(family).items() if name != drop and data != UNREAD}
    hub.publish("lab/policy", files | dict.fromkeys(add, b"{}"))

    assert said in refused("lab/policy")
    assert hub.names <= {"config.json"}


def test_a_family_that_does_not_say_its_files(hub: Hub, tiny: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    """Is told to be downloaded whole; nothing large is fetched on a guess."""
    monkeypatch.delitem(FILES, "openvla")
    hub.publish("lab/policy", tiny)

    assert "a checkpoint of openvla is not fetched by its id yet, as those of openvla_oft, cogact are" in refused(
        "lab/policy"
    )
    assert hub.names == {"config.json"}


def test_a_tokenizer_may_be_put_beside_what_was_fetched(hub: Hub, cogact: Files) -> None:
    """Published run folders have none: the error says where it goes, and then the weights come."""
    commit = hub.publish("lab/policy", {name: data for name, data in cogact.items() if name != "tokenizer.json"})
    place = Path(constants.HF_HUB_CACHE) / "models--lab--policy" / "snapshots" / commit
    assert f"put that of the same vocabulary into {place} and start again" in refused("lab/policy")
    (place / "tokenizer.json").write_bytes(cogact["tokenizer.json"])

    assert local_folder(Path("lab/policy")) == place
    assert hub.names == READ["cogact"] - {"tokenizer.json"}


def test_a_history_comes_with_its_policy(hub: Hub, tiny: Files) -> None:
    """Whichever family it is of."""
    hub.publish("lab/policy", tiny | {"memory.json": b"{}", "memory.safetensors": b"x", "memory.py": b"x"})
    local_folder(Path("lab/policy"))

    assert {name for name in hub.names if name.startswith("memory")} == {"memory.json", "memory.safetensors"}


def test_sentencepieces_file_comes_where_there_is_no_other(hub: Hub, tiny: Files) -> None:
    """With what lies beside it and says which tokens were added."""
    beside = {"tokenizer.model": b"x", "tokenizer_config.json": b"{}", "added_tokens.json": b"{}"}
    hub.publish("lab/both", tiny | beside)
    local_folder(Path("lab/both"))
    assert hub.names & {"tokenizer.json", *beside} == {"tokenizer.json"}
    hub.publish("lab/model", {name: data for name, data in (tiny | beside).items() if name != "tokenizer.json"})
    local_folder(Path("lab/model"))
    assert hub.names & {*beside} == {*beside}


def test_the_weights_that_came_are_those_that_were_published(hub: Hub, tiny: Files, folder: Path) -> None:
    """They load as from their folder."""
    hub.publish("lab/policy", tiny)
    fetched = open_folder(local_folder(Path("lab/policy")))[1]
    own = open_folder(folder)[1]

    assert fetched.stored.keys() == own.stored.keys()
    name = next(iter(own.stored))
    with fetched.opened(fetched.stored[name][0]) as here, own.opened(own.stored[name][0]) as there:
        assert torch.equal(here.get_tensor(name), there.get_tensor(name))
