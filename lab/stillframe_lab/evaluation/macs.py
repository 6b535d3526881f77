"""Count the multiply-adds and bytes of a step: towers, decoder, and what says the action beside it.

Knows sizes and row counts; no time and no weights. `head_work` is of the families whose action no decoder says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from torch import nn

from stillframe.models.cogact.dit import DiT
from stillframe.models.llama.decoder import DecoderConfig
from stillframe.models.llama.layout import Mask
from stillframe.models.openvla_oft.heads import RegressionHead
from stillframe.models.pi0.model import Pi0
from stillframe.models.pi0.sizes import Pi0Sizes
from stillframe.models.prismatic.vision import TowerConfig
from stillframe.reuse.plan import ReusePlan

FLOAT32_BYTES = 4


@dataclass(frozen=True)
class Work:
    """Multiply-adds and bytes of one part of a step."""

    macs: int  # multiply-adds
    read_bytes: int  # weights, each once, and the keys and values attended to

    def __add__(self, other: Work) -> Work:
        return Work(self.macs + other.macs, self.read_bytes + other.read_bytes)


@dataclass(frozen=True)
class _LayerRows:
    """What one layer has of one robot's rows."""

    entering: int
    going: int  # of these, that leave more than keys and values
    keys: int  # that each of them looks at


def policy_work(
    model: Any,
    plan: ReusePlan,
    tokens: int,
    passes: int,
    pruned: Sequence[int] = (),
    *,
    item_bytes: int = 1,
    robots: int = 1,
) -> tuple[Work, ...]:
    """Each pass of the decoder in one step of any family; towers and heads beside it are `vision_work` and `head_work`.

    `tokens`: of the answer; `passes`: as its report has them. `pruned[l]` of the prompt's rows are not there in layer l
    (empty: none): what deciding on them took is left out. `robots` alike share each pass.
    """
    config, counts = model.decoder.config, plan.counts
    if tokens and model.mask is Mask.CAUSAL:  # they are decoded behind the prompt
        return step_work(config, plan.rows, counts, tokens, passes, pruned, item_bytes=item_bytes, robots=robots)
    return (single_pass(config, plan.rows, counts, model.answer_rows, tokens, item_bytes, robots, pruned),)


def policy_macs(model: Any, plan: ReusePlan, tokens: int, passes: int, pruned: Sequence[int] = ()) -> int:
    """The decoder's multiply-adds in one step: see `policy_work`."""
    return sum(work.macs for work in policy_work(model, plan, tokens, passes, pruned))


def single_pass(
    config: DecoderConfig,
    rows: int,
    reused: Sequence[int],
    read: int,
    said: int,
    item_bytes: int = 1,
    robots: int = 1,
    pruned: Sequence[int] = (),
) -> Work:
    """The one pass of a step whose action's rows, if it has any, are among the prompt's `rows`.

    Of these `reused[l]` do not go through layer l, and through the last go `read`, from which the action is made; all
    see every key, whatever the mask. `said`: rows of which the decoder's own head says a token; 0: it has none.
    `pruned`: see `policy_work`.
    """
    entering = [rows, *(rows - left_out for left_out in reused[:-1]), read]
    return _work(config, _prompt_layers(entering, rows, pruned), said, item_bytes, robots)


def decoder_macs(config: DecoderConfig, rows: int, reused: Sequence[int], action_tokens: int, passes: int = 1) -> int:
    """Multiply-adds of one step: see `step_work`."""
    return sum(work.macs for work in step_work(config, rows, reused, action_tokens, passes))


def step_work(
    config: DecoderConfig,
    rows: int,
    reused: Sequence[int],
    action_tokens: int,
    passes: int = 1,
    pruned: Sequence[int] = (),
    *,
    item_bytes: int = 1,
    robots: int = 1,
) -> tuple[Work, ...]:
    """Each pass of one step: a prefill of `rows`, of which `reused[l]` do not go through layer l, and those after it.

    Each pass, the prefill among them, has a row for every action token but the last; the output head runs once for each
    token that a pass speaks of. Only rows that the head reads go through the prefill's last layer. `pruned`: see
    `policy_work`.
    """
    guesses = action_tokens - 1
    keys = rows + guesses
    entering = [keys, *(keys - left_out for left_out in reused[:-1]), action_tokens]
    prefill = _prompt_layers(entering, keys, pruned)
    behind = [_LayerRows(guesses, guesses, layer.keys) for layer in prefill]
    again = _work(config, behind, guesses, item_bytes, robots)
    return (_work(config, prefill, action_tokens, item_bytes, robots), *[again] * (passes - 1))


def history_macs(config: DecoderConfig, slots: int, text_rows: int, action_tokens: int, passes: int = 1) -> int:
    """Multiply-adds of attending to so many history slots: text and action rows do, in each layer.

    Only rows that are read go through the prefill's last layer. Pooling and scoring, once a frame, are left out.
    """
    guesses, layers = action_tokens - 1, config.num_hidden_layers
    looks = (layers - 1) * (text_rows + guesses) + action_tokens + (passes - 1) * layers * guesses
    return 2 * slots * config.hidden_size * looks


def decoder_pass(
    config: DecoderConfig, entering: Sequence[int], keys: int, heads: int, item_bytes: int, robots: int = 1
) -> Work:
    """One pass over `entering[l]` rows of each robot in layer l, of which entering[l + 1] go on.

    Attention counts rows that go on x all keys, twice (scores and values), reused keys included; what a causal kernel
    may skip is counted. A row that does not go on costs two projections, of its keys and values. `heads`
    rows get logits. Norms, rotations, softmax and the embeddings' look-up multiply next to nothing and are left out.
    `robots` alike share the pass: their rows are multiplied by weights that are read once.
    """
    return _work(config, _prompt_layers(entering, keys), heads, item_bytes, robots)


def _prompt_layers(entering: Sequence[int], keys: int, pruned: Sequence[int] = ()) -> list[_LayerRows]:
    """Each layer's, of a prompt: see `decoder_pass`. Of `pruned[l]` rows layer l has nothing; none of these is read."""
    gone = pruned or [0] * (len(entering) - 1)
    return [
        _LayerRows(here - left_out, min(going, here - left_out), keys - left_out)
        for (here, going), left_out in zip(pairwise(entering), gone, strict=True)
    ]


def _work(config: DecoderConfig, layers: Sequence[_LayerRows], heads: int, item_bytes: int, robots: int) -> Work:
    """See `decoder_pass`."""
    left = _keys_and_values(config)
    rows = sum(each.going * _layer(config, each.keys) + (each.entering - each.going) * left for each in layers)
    head = config.hidden_size * config.vocab_size
    weights = config.num_hidden_layers * _layer(config, keys=0) + (head if heads else 0)
    looked_at = sum(each.keys for each in layers) * 2 * config.num_key_value_heads * config.head_dim
    return Work(robots * (rows + heads * head), item_bytes * (weights + robots * looked_at))


def vision_work(model: Any, item_bytes: int, robots: int = 1) -> Work:
    """Both towers and the projector over each robot's pictures, without the last blocks, which feed nothing.

    `model`: a policy whose configuration names `towers` and `cameras`, or a pi0: all blocks of its tower are read.
    """
    if isinstance(model, Pi0):
        return siglip_work(model.config.sizes, robots * len(model.config.cameras), item_bytes)
    towers: Sequence[TowerConfig] = model.config.towers
    pictures = robots * len(model.config.cameras)
    width = model.decoder.config.hidden_size
    dim = sum(tower.embed_dim for tower in towers)
    projector = 4 * dim * dim + 4 * dim * width + width * width
    macs = sum(_tower_macs(tower, tower.depth - 1) for tower in towers) + towers[0].grid ** 2 * projector
    weights = sum((tower.depth - 1) * _block(tower) for tower in towers) + projector
    return Work(pictures * macs, item_bytes * weights)


def siglip_work(sizes: Pi0Sizes, pictures: int, item_bytes: int) -> Work:
    """A pi0's tower and projector over so many pictures."""
    tower = sizes.vision.tower
    projector = sizes.vision.width * sizes.decoder.hidden_size
    macs = _tower_macs(tower, tower.depth) + tower.grid**2 * projector
    return Work(pictures * macs, item_bytes * (tower.depth * _block(tower) + projector))


def head_work(model: Any, item_bytes: int, robots: int = 1, prompt_rows: int = 0) -> tuple[Work, ...]:
    """What says the action beside the decoder: a head that regresses with a projector of the state, or a diffusion's.

    Its products' weights, each once for a row that goes through it. Nothing where the decoder's own head says it. A
    pi0's expert also looks at the keys of `prompt_rows`.
    """
    if isinstance(model, Pi0):
        return _expert(model, item_bytes, robots, prompt_rows)
    head = getattr(model, "head", None)
    parts: list[Work] = []
    if isinstance(head, RegressionHead):
        parts.append(_products(head, model.oft.chunk * robots, item_bytes))
    if getattr(model, "projector", None) is not None:
        parts.append(_products(model.projector, robots, item_bytes))
    if isinstance(head, DiT):
        parts += _diffusion(head, model.denoising.steps, (1 + model.denoising.guided) * robots)
    return tuple(parts)


def _products(part: nn.Module, rows: int, item_bytes: int) -> Work:
    """Rows that go through every linear layer of it."""
    weights = sum(layer.weight.numel() for layer in part.modules() if isinstance(layer, nn.Linear))
    return Work(rows * weights, item_bytes * weights)


def _diffusion(head: DiT, steps: int, chunks: int) -> list[Work]:
    """A pass for each step over `chunks`; with guidance each is there twice. In float32, as it is kept."""
    rows, sizes = head.config.horizon + 1, head.config
    blocks = _products(head.blocks, chunks * rows, FLOAT32_BYTES)
    seen = Work(2 * chunks * sizes.depth * rows**2 * sizes.width, 0)  # every row by every other: scores and values
    once = [_products(part, chunks, FLOAT32_BYTES) for part in (head.t_embedder, head.z_embedder)]
    embedded = _products(head.x_embedder, chunks * sizes.horizon, FLOAT32_BYTES)
    last = _products(head.final_layer, chunks * rows, FLOAT32_BYTES)
    return [sum((seen, *once, embedded, last), blocks)] * steps


def flow_work(sizes: Pi0Sizes, keys: int, rows: int, item_bytes: int, robots: int = 1) -> Work:
    """One pass of a pi0's expert over so many own rows of each robot, and what leads into it and out of it.

    In every layer each row looks at `keys`, own ones included. What is known before a frame comes is not counted.
    """
    expert, layers = sizes.expert, sizes.expert.num_hidden_layers
    own = decoder_pass(expert, [rows] * (layers + 1), keys, 0, item_bytes, robots)
    ends = (2 * sizes.action_dim + (0 if sizes.adaptive else expert.hidden_size)) * expert.hidden_size
    return own + Work(robots * rows * ends, FLOAT32_BYTES * ends)


def _expert(model: Pi0, item_bytes: int, robots: int, prompt_rows: int) -> tuple[Work, ...]:
    """Every step; the state's row goes with the first one, and sees no action."""
    sizes, state, horizon = model.config.sizes, 0 if model.config.sizes.adaptive else 1, model.config.horizon
    step = flow_work(sizes, prompt_rows + state + horizon, horizon, item_bytes, robots)
    expert, steps = sizes.expert, (step,) * model.config.flow.steps
    if not state:
        return steps
    row = decoder_pass(expert, [1] * (expert.num_hidden_layers + 1), prompt_rows + 1, 0, item_bytes, robots)
    led = sizes.action_dim * expert.hidden_size
    return (step + Work(row.macs + robots * led, FLOAT32_BYTES * led), *steps[1:])


def _tower_macs(tower: TowerConfig, blocks: int) -> int:
    tokens = tower.grid**2 + tower.prefix_tokens
    patches = tower.grid**2 * 3 * tower.patch_px**2 * tower.embed_dim
    return patches + blocks * tokens * (_block(tower) + 2 * tokens * tower.embed_dim)


def _block(tower: TowerConfig) -> int:
    """One block's weights: q, k, v and o, and the feed-forward's two."""
    return 4 * tower.embed_dim**2 + 2 * tower.embed_dim * tower.mlp_dim


def _keys_and_values(config: DecoderConfig) -> int:
    """Of one row."""
    return 2 * config.hidden_size * config.num_key_value_heads * config.head_dim


def _layer(config: DecoderConfig, keys: int) -> int:
    """One row in one layer: projections and feed-forward, and its look at every key."""
    width, heads_width = config.hidden_size, config.num_attention_heads * config.head_dim
    projections = 2 * width * heads_width + _keys_and_values(config)  # q and o, k and v
    feed_forward = 3 * width * config.intermediate_size  # gate, up, down
    attention = 2 * keys * heads_width
    return projections + feed_forward + attention
