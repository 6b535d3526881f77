from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from stillframe.errors import CheckpointError
from stillframe.models.checkpoint import CheckpointFolder
from stillframe.models.prismatic.from_sentencepiece import convert
from stillframe.models.prismatic.prompt import PromptEncoder
from stillframe.models.prismatic.sentencepiece_file import Kind, parse_model
from stillframe.models.prismatic.tokenizer import read_tokenizer, tokenizer_file

MICRO = Path(__file__).parents[2] / "goldens" / "sentencepiece-micro"
IDS = json.loads((MICRO / "ids.json").read_text())  # whose -> [text, ids]
PIECES = 640
Change = Callable[..., Path]


@pytest.fixture(scope="module")
def ours() -> Tokenizer:
    """Built from the golden model."""
    return read_tokenizer(MICRO / "tokenizer.model")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the golden model and its JSON to spoil."""
    for name in ("tokenizer.model", "tokenizer_config.json"):
        shutil.copy(MICRO / name, tmp_path)
    return tmp_path


@pytest.fixture
def configure(folder: Path) -> Change:
    """Change keys of its tokenizer_config.json; the model's file."""

    def change(**keys: object) -> Path:
        file = folder / "tokenizer_config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | keys))
        return folder / "tokenizer.model"

    return change


def message(*fields: tuple[int, int | float | bytes]) -> bytes:
    """A protocol buffer of numbered fields."""
    return b"".join(_field(number, value) for number, value in fields)


def _field(number: int, value: int | float | bytes) -> bytes:
    if isinstance(value, bytes):
        return _varint(number << 3 | 2) + _varint(len(value)) + value
    if isinstance(value, float):
        return _varint(number << 3 | 5) + struct.pack("<f", value)
    return _varint(number << 3) + _varint(value)


def _varint(value: int) -> bytes:
    return bytes([value]) if value < 0x80 else bytes([value & 0x7F | 0x80]) + _varint(value >> 7)


def model(trainer: bytes = b"", normalizer: bytes = b"", *pieces: bytes) -> bytes:
    """A small one of Llama's kind, then whatever is said otherwise: of a field the last counts."""
    own = [
        message((1, b"<unk>"), (3, 2)),
        message((1, b"<s>"), (3, 3)),
        message((1, "▁".encode()), (2, -1.0)),
        message((1, b"a")),
    ]
    kind, identity = message((3, 2)), message((4, 0))
    parts = ((1, piece) for piece in (*own, *pieces))
    return message(*parts, (2, kind + trainer), (3, identity + normalizer))


def test_ids_are_sentencepieces(ours: Tokenizer) -> None:
    """Of text in many scripts, of blanks wherever they stand, of bytes, of nothing at all: behind BOS the same."""
    differing = [text for text, ids in IDS["sentencepiece"] if ours.encode(text).ids != [1, *ids]]

    assert differing == []
    assert len(IDS["sentencepiece"]) > 200


def test_ids_are_those_of_the_tokenizer_json_of_transformers(ours: Tokenizer) -> None:
    """Added tokens included; of all text but what begins with a blank, where that one is not sentencepiece's."""
    differing = [text for text, ids in IDS["transformers"] if ours.encode(text).ids != ids]

    assert differing == []
    assert dict(map(tuple, IDS["transformers"]))["a<PAD>b"].count(PIECES) == 1


def test_what_is_built_reads_back(ours: Tokenizer, tmp_path: Path) -> None:
    """It is what a tokenizer.json holds, and text comes out as it went in."""
    ours.save(str(tmp_path / "tokenizer.json"))
    again = read_tokenizer(tmp_path / "tokenizer.json")

    for text, _ in IDS["sentencepiece"]:
        ids = ours.encode(text).ids
        assert again.encode(text).ids == ids
        if "\ufffd" not in text and "▁" not in text:
            assert ours.decode(ids) == text


def test_a_prompt_is_written_with_it(folder: Path) -> None:
    """Where there is no tokenizer.json; one that is there is what is read."""
    file = tokenizer_file(CheckpointFolder(folder))
    prompt = PromptEncoder(file, 200, PIECES + 1)
    text = "In: What action should the robot take to put the spoon on the towel?\nOut:"
    expected = dict(map(tuple, IDS["sentencepiece"]))[text]

    assert file.name == "tokenizer.model"
    assert prompt.ids("Put the spoon on the towel") == (1, *expected, prompt.facts["lone_space_id"])
    assert prompt.unknown_words("🙂 spoon") == ("🙂",)
    assert prompt.facts["highest_id"] == PIECES
    (folder / "tokenizer.json").write_text("{}")
    assert tokenizer_file(CheckpointFolder(folder)).name == "tokenizer.json"
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer.model").unlink()
    with pytest.raises(CheckpointError, match=r"lacks tokenizer\.json; found: tokenizer_config\.json"):
        tokenizer_file(CheckpointFolder(folder))


def test_bos_and_eos_are_as_the_config_says(configure: Change) -> None:
    """BOS alone where it says nothing; a token may be an object with flags; neither is run together with the text."""
    assert convert(configure()).encode("a").ids[0] == 1
    assert convert(configure(bos_token={"content": "</s>"}, add_eos_token=True)).encode("a").ids[::2] == [2, 2]
    plain = convert(configure(add_bos_token=False, add_eos_token=False)).encode("a").ids
    assert plain == convert(configure(add_bos_token=True, bos_token="<s>", add_eos_token=False)).encode("a").ids[1:]  # noqa: S106


def test_added_tokens_have_the_ids_that_are_written(folder: Path, configure: Change) -> None:
    """In either of the two forms; one that would get another id is refused."""
    model_file = configure(added_tokens_decoder={str(PIECES + 1): {"content": "<b>"}, str(PIECES): {"content": "<a>"}})
    assert convert(model_file).encode("x<b><a>").ids[-2:] == [PIECES + 1, PIECES]
    configure(added_tokens_decoder=None)
    (folder / "added_tokens.json").write_text(json.dumps({"<b>": PIECES + 1, "<a>": PIECES}))
    assert convert(model_file).encode("x<b><a>").ids[-2:] == [PIECES + 1, PIECES]
    for wrong in ({"<a>": PIECES + 3}, {"<s>": PIECES}):
        (folder / "added_tokens.json").write_text(json.dumps(wrong))
        with pytest.raises(CheckpointError, match="of one checkpoint"):
            convert(model_file)
    for wrong in ([], {"7": {}}, {"x": {"content": "a"}}, {"640": "<a>"}):
        with pytest.raises(CheckpointError, match="in a form that is not read"):
            convert(configure(added_tokens_decoder=wrong))


def test_ids_beyond_the_decoders_are_refused(folder: Path) -> None:
    """As those of a tokenizer.json."""
    with pytest.raises(CheckpointError, match=f"has ids up to {PIECES}, but the decoder's vocabulary ends at 639"):
        read_tokenizer(folder / "tokenizer.model", PIECES)


def test_a_bos_that_is_no_token_is_refused(configure: Change) -> None:
    """Every prompt would lack it."""
    with pytest.raises(CheckpointError, match="has no token <begin>, with which every text begins or ends"):
        convert(configure(bos_token="<begin>"))  # noqa: S106


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (model(message((3, 1))), "it splits text by unigram, not by BPE"),
        (model(message((24, 1))), "it marks blanks in another way"),
        (model(b"", message((5, 0))), "it marks blanks in another way"),
        (model(b"", message((2, b"map"))), "it rewrites text before it splits it"),
        (model(b"", message((4, 1))), "it rewrites text before it splits it"),
        (message((1, message((1, b"a"))), (2, message((3, 2)))), "it rewrites text before it splits it"),  # by default
        (model(b"", b"", message((1, b"x"), (3, 5))), "it has pieces that are out of use"),
        (model(b"", b"", message((1, b"a"))), "it has a piece twice"),
    ],
)
def test_a_model_of_another_kind_is_refused(tmp_path: Path, data: bytes, said: str) -> None:
    """With what is different, and what makes a tokenizer.json of it."""
    file = tmp_path / "tokenizer.model"
    file.write_bytes(data)

    with pytest.raises(CheckpointError) as caught:
        read_tokenizer(file)
    assert f"{file} is a sentencepiece model that is not read here: {said}; make tokenizer.json" in str(caught.value)


def test_what_the_format_leaves_out_has_its_defaults(tmp_path: Path) -> None:
    """A piece is normal, a blank goes before the text; without one where the model says so."""
    parsed = parse_model(model())
    assert [piece.kind for piece in parsed.pieces] == [Kind.UNKNOWN, Kind.CONTROL, Kind.NORMAL, Kind.NORMAL]
    assert parsed.dummy_prefix
    assert not parsed.byte_fallback
    for prefix, ids in ((1, [1, 2, 3, 0]), (0, [1, 3, 0])):
        (tmp_path / "tokenizer.model").write_bytes(model(b"", message((3, prefix))))
        assert read_tokenizer(tmp_path / "tokenizer.model").encode("aéé").ids == ids


def test_a_symbol_of_the_users_is_never_split(tmp_path: Path) -> None:
    """Nor merged with what stands beside it, though a piece would hold both."""
    symbol, longer = message((1, b"aa"), (3, 4)), message((1, b"aaa"), (2, 1.0))
    (tmp_path / "tokenizer.model").write_bytes(model(b"", message((3, 0)), symbol, longer))

    assert read_tokenizer(tmp_path / "tokenizer.model").encode("aaa").ids == [1, 4, 3]


def test_text_that_is_written_like_a_byte_is_none(tmp_path: Path) -> None:
    """What stands for a byte that no piece holds is never put together of pieces."""
    chain = [
        message((1, text.encode()), (2, -float(at))) for at, text in enumerate(["<0", "<0x", "<0x4", "1>", *"<0x41>"])
    ]
    (tmp_path / "tokenizer.model").write_bytes(model(b"", message((3, 0)), message((1, b"<0x41>"), (3, 6)), *chain))

    assert read_tokenizer(tmp_path / "tokenizer.model").encode("<0x41>").tokens == ["<s>", "<0x4", "1>"]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x0a",
        b"\xff" * 30,
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 499723\n",
        b"Entry not found",
        b"<!doctype html>",
        (MICRO / "tokenizer.model").read_bytes()[:-100],
        message((1, 5)),
        message((1, message((1, b"\xff")))),
        message((1, message((1, b"a"), (3, 9)))),
        message((1, message((1, b"a"), (2, 7)))),
        message((1, message((1, b"a" * 300)))),
        model(message((3, 2.0))),
        b"\x0c",
    ],
)
def test_what_is_no_model_is_refused_in_one_line(tmp_path: Path, data: bytes) -> None:
    """Cut short, another file, or nonsense; never a traceback."""
    file = tmp_path / "tokenizer.model"
    file.write_bytes(data)

    with pytest.raises(CheckpointError) as caught:
        read_tokenizer(file)
    assert str(caught.value).startswith(str(file))
    assert str(caught.value).isprintable()
