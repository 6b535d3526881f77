"""Builds from a tokenizer.model of Llama's kind the tokenizer that its tokenizer.json would hold.

Knows sentencepiece's BPE in terms of the `tokenizers` library; no prompt. Neither sentencepiece nor transformers is
needed, and no checkpoint's code is run. Source: google/sentencepiece, src/bpe_model.cc.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, normalizers, processors
from tokenizers.models import BPE

from stillframe.errors import CheckpointError
from stillframe.files.json import read_object, reading
from stillframe.files.kinds import FETCH, mistaken, shown, words
from stillframe.models.prismatic.sentencepiece_file import Algorithm, Kind, Piece, SentencePieceModel, parse_model

BLANK = "▁"
CONFIG, ADDED = "tokenizer_config.json", "added_tokens.json"  # beside tokenizer.model
BEGIN = "<s>"  # where tokenizer_config.json names none
CONVERT = (
    "make tokenizer.json where transformers and sentencepiece are installed: "
    "AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)"
)


def convert(file: Path) -> Tokenizer:
    """Read `file` and the JSON beside it. Raises CheckpointError for another kind of model."""
    model = _read(file)
    differing = ", ".join(_differences(model))
    if differing:
        raise CheckpointError(f"{shown(file)} is a sentencepiece model that is not read here: {differing}; {CONVERT}")
    ids = {piece.text: at for at, piece in enumerate(model.pieces)}
    unknown = next((piece.text for piece in model.pieces if piece.kind is Kind.UNKNOWN), None)
    tokenizer = Tokenizer(
        BPE(ids, list(_merges(model.pieces)), unk_token=unknown, fuse_unk=True, byte_fallback=model.byte_fallback)
    )
    prefix = [normalizers.Prepend(BLANK)] if model.dummy_prefix else []
    tokenizer.normalizer = normalizers.Sequence([*prefix, normalizers.Replace(" ", BLANK)])
    strip = [decoders.Strip(" ", 1, 0)] if model.dummy_prefix else []
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace(BLANK, " "), decoders.ByteFallback(), decoders.Fuse(), *strip]
    )
    settings = _json(file.with_name(CONFIG))
    tokenizer.add_tokens([_own(piece) for piece in model.pieces if piece.kind in (Kind.UNKNOWN, Kind.CONTROL)])
    tokenizer.add_tokens([_own(piece) for piece in model.pieces if piece.kind is Kind.USER_DEFINED])
    _add_others(file, tokenizer, settings)
    _begin(file, tokenizer, settings)
    return tokenizer


def _read(file: Path) -> SentencePieceModel:
    with reading(file):
        data = file.read_bytes()
    try:
        return parse_model(data)
    except ValueError as error:
        text = mistaken(file) or words(file)
        why = f"it {text}" if text else f"{shown(error)}; {FETCH}"
        raise CheckpointError(f"{shown(file)} is no sentencepiece model: {why}") from error


def _differences(model: SentencePieceModel) -> Iterator[str]:
    """In what it is of another kind than Llama's."""
    if model.algorithm is not Algorithm.BPE:
        yield f"it splits text by {model.algorithm.name.lower()}, not by BPE"
    if model.charsmap or model.strips_whitespace:
        yield "it rewrites text before it splits it"
    if model.whitespace_suffix or not model.escapes_whitespace:
        yield "it marks blanks in another way"
    if any(piece.kind is Kind.UNUSED for piece in model.pieces):
        yield "it has pieces that are out of use"
    if len({piece.text for piece in model.pieces}) < len(model.pieces):
        yield "it has a piece twice"


def _merges(pieces: tuple[Piece, ...]) -> Iterator[tuple[str, str]]:
    """Pairs that become one piece, the best piece first; sentencepiece looks at no more than what comes of a pair."""
    normal = {piece.text: at for at, piece in enumerate(pieces) if piece.kind is Kind.NORMAL}
    for piece in sorted((pieces[at] for at in normal.values()), key=lambda piece: -piece.score):
        text = piece.text
        splits = [(text[:cut], text[cut:]) for cut in range(1, len(text))]
        yield from sorted(
            (split for split in splits if split[0] in normal and split[1] in normal),
            key=lambda split: (normal[split[0]], normal[split[1]]),
        )


def _own(piece: Piece) -> AddedToken:
    """A piece that is found in text before the rest is split."""
    return AddedToken(piece.text, normalized=False, special=piece.kind is not Kind.USER_DEFINED)


def _add_others(file: Path, tokenizer: Tokenizer, settings: Mapping[str, Any]) -> None:
    """Add tokens behind the model's own, such as Prismatic's <PAD>: each has to get the id that is written for it."""
    for at, token in sorted(_others(file, settings).items()):
        if tokenizer.token_to_id(token.content) is None:
            tokenizer.add_tokens([token])
        if tokenizer.token_to_id(token.content) != at:
            raise CheckpointError(
                f"{shown(file.parent)} adds the token {shown(token.content)} with id {at}; expected "
                f"{tokenizer.token_to_id(token.content)}, the next that is free: are {file.name} and the JSON beside "
                "it of one checkpoint?"
            )


def _others(file: Path, settings: Mapping[str, Any]) -> dict[int, AddedToken]:
    """Tokens by id, as tokenizer_config.json has them, or the older added_tokens.json."""
    decoder = settings.get("added_tokens_decoder")
    try:
        if decoder is not None:
            return {int(at): AddedToken(**_flags(written)) for at, written in decoder.items()}
        added = _json(file.with_name(ADDED))
        return {int(at): AddedToken(text, normalized=False, special=True) for text, at in added.items()}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{shown(file.parent)}: {CONFIG} or {ADDED} lists added tokens in a form that is not read "
            f"({shown(error)}); expected their text and flags by id"
        ) from error


def _flags(written: Mapping[str, Any]) -> dict[str, Any]:
    known = ("single_word", "lstrip", "rstrip", "normalized", "special")
    return {
        "content": written["content"],
        "normalized": False,
        **{flag: written[flag] for flag in known if flag in written},
    }


def _begin(file: Path, tokenizer: Tokenizer, settings: Mapping[str, Any]) -> None:
    """Put BOS before every text and EOS behind it, as tokenizer_config.json says: BOS alone where it says nothing."""
    begin, end = (
        _name(settings, key, default) if settings.get(f"add_{key}", default_on) else None
        for key, default, default_on in (("bos_token", BEGIN, True), ("eos_token", "</s>", False))
    )
    names = [name for name in (begin, end) if name is not None]
    known = [(name, tokenizer.token_to_id(name)) for name in names]
    for name, at in known:
        if at is None:
            raise CheckpointError(f"{shown(file)} has no token {shown(name)}, with which every text begins or ends")
    if known:
        single = [part for part in (begin, "$A", end) if part is not None]
        tokenizer.post_processor = processors.TemplateProcessing(single=single, special_tokens=known)


def _name(settings: Mapping[str, Any], key: str, default: str) -> str:
    """A token's text: written as such, or as an object with flags."""
    written = settings.get(key) or default
    return str(written.get("content", default) if isinstance(written, dict) else written)


def _json(file: Path) -> dict[str, Any]:
    """What is in it; nothing where there is none."""
    return read_object(file) if file.is_file() else {}
