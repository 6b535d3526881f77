"""jaco-tiny's own tokenizer: 64 text ids, where OpenVLA has Llama's 32,000.

Knows words; no network. The prompt's fixed parts are one token each, so an instruction costs few rows.
"""

from __future__ import annotations

from tokenizers import AddedToken, Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Split
from tokenizers.processors import TemplateProcessing

from stillframe.models.prompt import LONE_SPACE, TEMPLATE

TEXT_VOCAB = 64
SPECIAL = ("<unk>", "<s>", "</s>")
BOS_ID, EOS_ID = SPECIAL.index("<s>"), SPECIAL.index("</s>")
WORDS = [
    *("pick", "up", "reach", "push", "the", "red", "green", "blue", "cube", "to", "left", "right"),
    *("and", "then", "first", "it", "lamp", "shown", "by", "put", "place", "on", "block", "grab"),
    *("lift", "touch", "move", "go", "stop", "wait", "same", "other", "last", "second", "remember", "colour"),
]


def build_tokenizer() -> Tokenizer:
    """A word-level tokenizer that starts with <s>; words it does not know become <unk>."""
    before, after = TEMPLATE.split(" {instruction}")
    known = [*SPECIAL, LONE_SPACE, *WORDS]
    vocab = {word: index for index, word in enumerate(known)}
    tokenizer = Tokenizer(WordLevel(vocab, unk_token=SPECIAL[0]))
    tokenizer.pre_tokenizer = Split(" ", behavior="removed")
    tokenizer.add_tokens([AddedToken(part, normalized=False) for part in (before, after)])
    if tokenizer.get_vocab_size() > TEXT_VOCAB:
        raise ValueError(f"{tokenizer.get_vocab_size()} tokens do not fit {TEXT_VOCAB} text ids")
    tokenizer.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", vocab["<s>"])])
    return tokenizer
