"""docs/memory/README.md: tables, what they show, and how to read them.

Knows a finished results document; computes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from stillframe_lab.evaluation.page import number, success, table, targets_table
from stillframe_lab.history.arms import FULL, GATE, LINEAR, OFF, RAW, SAMPLING, WINDOW
from stillframe_lab.history.earlier import MARK
from stillframe_lab.history.plan import LONG as LONG_DELAY
from stillframe_lab.history.plan import PROOFS

Document = Mapping[str, Any]
Row = Mapping[str, Any]
KIB = 1024  # of a MiB, and bytes of a KiB
NAMES = {
    OFF: "off",
    FULL: "full history",
    WINDOW: "window",
    SAMPLING: "frame sampling",
    "novelty": "novelty",
    "attention": "attention",
    LINEAR: "linear score",
    GATE: "gate",
    RAW: "full history, raw",
}
VARIANTS = {
    "simple": "one colour to remember",
    "ordered": "two colours, in their order",
    "distractor": "one colour, decoys flash as well",
    "ordered-distractor": "two colours in their order, a decoy flashes as well",
}
HEAD = """\
# What older frames are worth, and what they cost

Made by `stillframe study memory` with {checkpoint} on the task `remember` in the simulated Jaco2: lamps flash and go
grey, and the arm stands frozen for a delay before it may reach for what was shown. {cells_played} of {cells} planned
cells, {episodes},
the same seeds from {seed} on in every one (none trained on), sensor noise of {noise_sigma:g} grey levels. {cpu},
{cores} cores ({cpu_capability}), torch {torch}, one thread a process. Every figure is in [results.json](results.json).
"""
EARLIER = """\
What bears a \\* is an earlier run's ({runs}), taken over as it is.
"""
TARGETS = "The gate with {budget_chunks} chunks at delay {delay}; the time of a step in mode off."
SCOPES = {
    "proof": "simple and distractor together",
    "simple": "simple",
    "distractor": "distractor",
    "long": "{variant}",
    "all_delays": "{variant}, all delays together",
    "step": "a step",
}
PROOF = """\
One cube to reach, after {delay} steps: what was kept decides, and not the arm. In **simple** one lamp flashes, in the
first frames of the episode. In **distractor** lamps flash three times, and only the colour whose marker is lit is
meant: the first, the second or the third. Frame sampling always holds the first frame: in simple it has the cue by its
place.
"""
HARDER = """\
Here the policy fails too often with full history for a difference of a few points to show.
"""
OTHERS = """\
## What others found

- **A recurrent state can be the memory.** μVLA ([arXiv 2606.12497](https://arxiv.org/abs/2606.12497)) gives OpenVLA-OFT
  memory tokens, trained through time and with nothing else added: on five tasks of MIKASA-Robo success goes from 0.42
  to 0.84. On tasks that need another structure of memory it stays near the policy without.
- **Or it can be the worst one.** RoboMME ([arXiv 2603.04639](https://arxiv.org/abs/2603.04639)) puts fourteen memories
  into one pi0.5: the recurrent ones come last (19 and 22 %), sampled frames that modulate the action expert first
  (44.5 %).

Both are those papers' figures, of other tasks and policies, and were not played here. The gate here is recurrent only
in what it keeps: what answers look at are frames, as with frame sampling, which is why that is one of the arms.
"""
SPEED = """\
Every arm waited through the same {delay} steps, then all took turns about the same {frames} frames, in one process on
one thread; ms are CPU time, medians. What is held then is what an episode holds at its end. **raw** keeps every image
token of every older frame as it is, in place of {slots} slots a frame.
"""
LONG = """\
An episode whose delay is {delay} steps, once with the gate's {chunks} chunks and once with everything kept, a step of
each in turn. The first {block} steps are left out; then the medians of {block} steps at the beginning, and of the last
in which the arm stood frozen: from then on an action takes more passes.
"""
UTILITY = """\
Seed {seed}, a delay of {delay} steps, room for {chunks} chunks. Behind the utilities: what flashed (hatched: a decoy,
whose marker is dark), and from where on the arm was free. Filled: held when the episode was over.
"""
READING = """\
## How to read it

- **off**: no history. **full history**: every older frame's slots, without end. **window**: the last frames.
  **frame sampling**: every 2^k-th frame from the first on, and as many between them as there is room for: thinned as
  the episode grows, so that no gap is more than twice another. **novelty**: how unlike the last new frame;
  **attention**: how much answers looked at it since; none of these is trained. **gate**: learnt, recurrent. **linear
  score**: learnt from the same labels, of each frame alone; a repeat is worth half in them, which no frame alone can
  tell. All but off and full have the same bytes, and keep the last {window_frames} frame(s) whatever they are worth;
  nothing goes but for want of room. All but frame sampling have the same decay ({decay:g} a frame).
- **chunk**: an older frame's slots in all layers. **held**: bytes of keys and values when an episode ended, mean;
  **peak**: the most at any time.
- **first direction**: which cube the arm made for in its first free steps. **timed out**: neither success nor a wrong
  cube.
- **decoder GMAC/step**: multiply-adds of prefill, decoding and output head (10^9), mean over all frames, looking at
  older frames included; pooling and scoring are not.
- **decoder ms**: prefill and decoding. **history ms**: planning and keeping, in which older frames are lent and taken
  in (in mode adaptive, what plans reuse as well). **passes**: of the decoder, an action.
- Intervals of success are Wilson's, those of differences Newcombe's, 95 %. Compare times in the speed tables only:
  cells were played side by side.

## Again

`stillframe study memory --checkpoint checkpoints/{checkpoint}`; `--episodes` says how many a cell has, `--cell proof`
plays the cells of one cube alone, and what is not named stays as results.json has it. Finished cells are kept under
runs/memory: a run that was stopped leaves a report of what there is, and goes on there the next time.
"""


def page(document: Document) -> str:
    """The whole README.md."""
    made, speed, long, utility = (document[key] for key in ("made_with", "speed", "long", "utility"))
    slots = speed["modes"]["off"][GATE]["slots"] // speed["chunks"]
    proof, others = _parted(document["rows"])
    parts = [
        HEAD.format(**made, episodes=_episodes(proof, others)) + _earlier(document),
        "## What was to be reached\n\n" + _reached(document),
        "## What it shows\n\n" + "".join(f"- {line}\n" for line in shows(document)),
        "## Where the policy itself hardly fails\n\n" + PROOF.format(**document["hard"]) + _missing(proof),
        "![success of every arm in simple and in distractor](proof.png)\n",
        *_played(proof),
        "## Harder episodes\n\n" + HARDER,
        "![success against delay and against bytes](success.png)\n",
        *_played(others),
        f"## Bytes, work and time of a step{_star(speed)}\n\n"
        + SPEED.format(delay=speed["delay"], frames=speed["frames"], slots=slots),
        *(f"### Mode {mode}\n\n{_raced(rows)}" for mode, rows in speed["modes"].items()),
        _gate_line(speed["gate"]),
        "![bytes, multiply-adds and time of a step](cost.png)\n",
        f"## A thousand steps{_star(long)}\n\n" + LONG.format(**long, chunks=speed["chunks"]) + "\n" + _long(long),
        "![bytes and time over a long episode](long.png)\n",
        f"## What a frame is worth{_star(utility)}\n\n" + UTILITY.format(**utility),
        "![utilities over an episode](utility.png)\n",
        OTHERS,
        READING.format(**made),
    ]
    return "\n".join(parts)


def _parted(rows: Sequence[Row]) -> tuple[list[Row], list[Row]]:
    """The proof's rows, and the others."""
    proof = [row for row in rows if row["variant"] in PROOFS and row["delay"] == LONG_DELAY]
    return proof, [row for row in rows if row not in proof]


def _missing(proof: Sequence[Row]) -> str:
    """Which of the proof's variants have no cell yet."""
    missing = [variant for variant in PROOFS if all(row["variant"] != variant for row in proof)]
    return f"Not played yet: {' and '.join(missing)}.\n" if missing else ""


def _episodes(proof: Sequence[Row], others: Sequence[Row]) -> str:
    """'100 episodes in each of the proof's and 16 in each other one'."""
    counts = [" or ".join(str(each) for each in sorted({row["episodes"] for row in rows})) for rows in (proof, others)]
    if counts[0] == counts[1] or not all(counts):
        return f"{counts[0] or counts[1] or 'no'} episodes each"
    return f"{counts[0]} episodes in each of those of one cube and {counts[1]} in each other one"


def _earlier(document: Document) -> str:
    """Which machines made what was taken over."""
    parts = [*document["rows"], document["speed"], document["long"], document["utility"]]
    words = "{cpu}, {cores} cores ({cpu_capability}), torch {torch}"
    runs = dict.fromkeys(words.format(**part[MARK]) for part in parts if MARK in part)
    return EARLIER.format(runs="; ".join(runs)) if runs else ""


def _star(part: Row) -> str:
    return " \\*" if MARK in part else ""


def _scope_name(scope: str, document: Document) -> str:
    return SCOPES[scope].format(**document["hard"])


def _reached(document: Document) -> str:
    """Targets, those of one scope together."""
    named = [{**one, "what": f"{_scope_name(one['scope'], document)}: {one['what']}"} for one in document["targets"]]
    return f"{TARGETS.format(**document['hard'])}\n\n{targets_table(named)}"


def shows(document: Document) -> Iterator[str]:
    """Sentences about the figures; cells that were not played are left out."""
    for scope, against in document["comparisons"].items():
        delay = "" if scope == "all_delays" else f", delay {document['hard']['delay']}"
        for other, one in against.items():
            yield f"{_scope_name(scope, document)}{delay}{_star(one)}: {_against(other, one)}"
    for mode, rows in document["speed"]["modes"].items():
        yield f"mode {mode}{_star(document['speed'])}: {_faster(rows)}"


def _against(other: str, against: Row) -> str:
    """'gate against full history: +1.1 points (-9.0 to +11.0) at 30.1x less memory; ...'."""
    low, high = (100 * bound for bound in against["ci95"])
    points = f"{100 * against['difference']:+.1f} points ({low:+.1f} to {high:+.1f})"
    ratio = against["bytes_ratio"]
    room = {FULL: f" with {ratio:.1f}x less memory", OFF: ""}.get(other, " in equal bytes") if ratio is not None else ""
    ours, theirs = against["only_arm_succeeds"], against["only_base_succeeds"]
    pairs = f"{ours} episodes only the gate won, {theirs} only {NAMES[other]}"
    return f"the gate against {NAMES[other]}: {points}{room}; of {against['episodes']}, {pairs}."


def _faster(rows: Mapping[str, Row]) -> str:
    """A prefill is one pass in all arms; how many follow depends on the answer."""
    gate = rows[GATE]
    told = (
        f"{gate[f'{other}_decoder_ms_ratio']:.2f}x as fast as with {NAMES[other]} (the prefill alone "
        f"{gate[f'{other}_prefill_ms_ratio']:.2f}x), with {gate[f'{other}_bytes_ratio']:,.0f}x less memory"
        for other in (FULL, RAW)
    )
    return f"with the gate the decoder is {'; '.join(told)}."


def _played(rows: Sequence[Row]) -> Iterator[str]:
    """A table a variant and delay."""
    for variant, delay in dict.fromkeys((row["variant"], row["delay"]) for row in rows):
        alike = [row for row in rows if (row["variant"], row["delay"]) == (variant, delay)]
        order = [*NAMES]
        alike.sort(key=lambda row: (row["budget_chunks"] or 0, order.index(row["arm"])))
        head = (
            *("older frames", "chunks", "success (95 % interval)", "first direction", "wrong cube", "timed out"),
            *("held, KiB", "peak, KiB", "decoder GMAC/step"),
        )
        title = f"{variant[0].upper()}{variant[1:]} ({VARIANTS[variant]}), delay {delay}"
        yield f"### {title}\n\n{table(head, [_cell(row) for row in alike])}"


def _cell(row: Row) -> tuple[str, ...]:
    chunks = {OFF: "none", FULL: "all"}.get(row["arm"], str(row["budget_chunks"]))
    shares = (f"{100 * row[key]:.0f} %" for key in ("first_direction", "wrong_cube", "timed_out"))
    held = (f"{KIB * row[key]:.0f}" for key in ("history_end_mib", "history_mib"))
    return (NAMES[row["arm"]] + _star(row), chunks, success(row), *shares, *held, number(row["decoder_gmacs"], 4))


def _raced(rows: Mapping[str, Row]) -> str:
    head = (
        *("older frames", "held, KiB", "slots", "GMAC", "passes", "reuse", "prefill ms", "decoder ms", "full / this"),
        *("raw / this", "history ms", "whole step ms", "full / this"),
    )
    return table(head, [_raced_row(arm, row) for arm, row in rows.items()])


def _raced_row(arm: str, row: Row) -> tuple[str, ...]:
    return (
        NAMES[arm],
        f"{row['bytes'] / KIB:.0f}",
        str(row["slots"]),
        number(row["gmacs"], 3),
        number(row["passes"], 2),
        number(row["reuse_ratio"], 2),
        number(row["prefill_ms"], 1),
        number(row["decoder_ms"], 1),
        f"{row['full_decoder_ms_ratio']:.2f}x",
        f"{row['raw_decoder_ms_ratio']:.2f}x",
        number(row["history_ms"], 1),
        number(row["step_ms"], 1),
        f"{row['full_step_ms_ratio']:.2f}x",
    )


def _gate_line(gate: Row) -> str:
    took = f"Scoring one frame's chunk takes the gate {gate['score_ms']:.2f} ms, {100 * gate['share']:.2f} % of a step;"
    return f"{took} lending, pooling, scoring and keeping together {gate['history_ms']:.1f} ms.\n"


def _long(long: Row) -> str:
    head = ("older frames", "steps", "success", "held, KiB", "prefill ms", "whole step ms")
    return table(head, [_lasted(NAMES[arm], long[arm], long["block"]) for arm in (GATE, FULL)])


def _lasted(name: str, run: Row, block: int) -> tuple[str, ...]:
    last = min(len(run["bytes"]), (run["free_from"] - 1) // block - 1) - 1  # blocks begin with the second
    held = [value / KIB for value in run["bytes"]]
    spans = ((held, 0), (run["prefill_ms"], 1), (run["step_ms"], 1))
    words = (f"{values[0]:,.{digits}f} to {values[last]:,.{digits}f}" for values, digits in spans)
    return (name, str(run["steps"]), "yes" if run["success"] else "no", *words)
