"""The benchmark's report: lines for a terminal, and docs/bench/README.md made of every device's results.

Knows finished documents; measures nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from stillframe_lab.evaluation.page import number, table, write_json
from stillframe_lab.latency.figures import STAGES, named

Document = Mapping[str, Any]
HEAD = """\
# How fast a step is

Made by `stillframe bench`: from JPEG bytes to an action, in process, against transformers' decoders driven the stock
way with the same weights. All rows of a model took turns on the same frames in one run. One file a device: {files}.
"""
NO_GPU = """\
## A GPU

Not measured: none was at hand. There `make bench` adds a file of its own, the full 7B shape included. What is only
believed of the code that runs there, and what would show it: [gpu.md](gpu.md).
"""
READING = """\
## How to read it

- **stock**: transformers' LlamaForCausalLM: dense prefill with logits of all rows, DynamicCache, sdpa, then a greedy
  pass for each of the other six tokens. Pictures, prompt and vision towers are ours in every row, stock ones too.
  **one head row**: logits of the last row alone. **our products**: its matrices multiplied as ours are. **compiled**:
  by torch.compile, over a static cache; compiling is not timed.
- **off**: ours without drafts and reuse; what is exact and cannot be switched off stays: joined and packed products,
  the last layer and the head for rows that are read, one prompt's ids.
- **drafts, as they come**: exact drafts from what the robot did before. **all right**, **all wrong**: told to them.
- **reuse 0.5**: half of the token-layers are reused whatever they look like. **reuse adaptive**: what the knobs allow;
  jaco-tiny has its deployment's, random weights the defaults.
- **oft-1024x16**: two pictures and a state to a chunk of eight actions in one bidirectional pass. Its stock is
  transformers' LlamaModel without mask, cache and output head, then the same head and statistics. A delta frame reuses
  rows of both pictures; the adaptive row's scene has a wrist camera, which sees everything move.
- **pi0-1024x9**, **jaco-tiny-pi0**: a prefix of pictures and text, over which an action expert flows in ten steps from
  noise to a chunk of ten actions; the first is pi0 halved in width and depth, two cameras of three slots, random
  weights. Its stock is openpi's loop over transformers' Gemmas: every slot encoded, text padded to its longest, the
  state's row and the code of time in every step. **no padding**: the same over what is there. Ours reads the prefix
  once as well (that is the one kind of KV), and reuses rows of the last frame's (the other).
- **identical picture**: the same frame again and again, mode exact.
- A row marked *forced* shows what a feature is worth where it works, not how often it does: random weights do nothing
  sensible, so only jaco-tiny says how often. Frames come from one recorded episode of pick, forth and back.
- **batch N**: N robots' frames as one; ms is per robot's frame, and the last column compares with one after the other.
- **roofline**: what the row's own multiply-adds and bytes would take at the best rates that this machine showed, each
  part of the step (vision, every pass) bound by the slower of the two; and how many times that the median is.
- Nothing here waits in a queue: a daemon adds `queue`, the network and the codec (`stillframe loadtest` measures them).
"""


def summary(document: Document) -> str:
    """For a terminal: one line a row, the roofline, the closed loop."""
    lines = [_machine_line(document), *_roofline_lines(document["roofline"]), ""]
    lines += _aligned([_HEAD, *(_cells(row) for row in document["rows"])])
    return "\n".join([*lines, "", *_loop_lines(document["closed_loop"])]) + "\n"


def write_report(out: Path, document: Document) -> list[str]:
    """Write the device's JSON, its charts where matplotlib is there, and README.md of all devices' -> their names.

    What an earlier run on the device has of other models stays, and its closed loop where this one played none.
    """
    out.mkdir(parents=True, exist_ok=True)
    file = out / f"{document['device']}.json"
    document = beside_earlier(json.loads(file.read_text(encoding="utf-8")), document) if file.is_file() else document
    write_json(file, document)
    charts = _charts(out, document)
    documents = {one.name: json.loads(one.read_text(encoding="utf-8")) for one in sorted(out.glob("*.json"))}
    (out / "README.md").write_text(page(documents, out), encoding="utf-8")
    return [file.name, *charts, "README.md"]


def beside_earlier(earlier: Document, document: Document) -> Document:
    """The document with the models and the closed loop that only an earlier one has. A model's rows are never mixed."""
    rows = {
        **{model: _rows_of(earlier, model) for model in _models(earlier)},
        **{model: _rows_of(document, model) for model in _models(document)},
    }
    played = document if "skipped" not in document["closed_loop"] else earlier
    return {**document, "rows": [*chain.from_iterable(rows.values())], "closed_loop": played["closed_loop"]}


def _models(document: Document) -> list[str]:
    """In the order of their rows."""
    return [*dict.fromkeys(row["model"] for row in document["rows"])]


def _rows_of(document: Document, model: str) -> list[Any]:
    return [row for row in document["rows"] if row["model"] == model]


def page(documents: Mapping[str, Document], folder: Path) -> str:
    """README.md; `documents` by file name, charts as far as they lie in `folder`."""
    files = ", ".join(f"[{name}]({name})" for name in documents)
    parts = [HEAD.format(files=files), *(_section(document, folder) for document in documents.values())]
    parts += [READING] if any(_is_gpu(document) for document in documents.values()) else [NO_GPU, READING]
    return "\n".join(parts)


def _is_gpu(document: Document) -> bool:
    return bool(document["machine"]["device"] != "cpu")


def _section(document: Document, folder: Path) -> str:
    name = document["device"]
    tables = [f"### {model}\n\n{_stage_table(document, model)}" for model in _models(document)]
    charts = [f"![{chart}]({name}-{chart}.png)\n" for chart in CHARTS if (folder / f"{name}-{chart}.png").is_file()]
    known = [*_roofline_lines(document["roofline"])]
    known += [f"{row}: left out: {why}" for row, why in document.get("left_out", {}).items()]
    lines = "\n".join(f"- {line}" for line in known)
    loop = "\n".join(f"- {line}" for line in _loop_lines(document["closed_loop"]))
    head = f"## {name}\n\n{_machine_line(document)}\n\n{lines}\n"
    return "\n".join([head, *tables, *charts, f"### Closed loop\n\n{loop}\n"])


BASELINE_KEYS = ("stock", "stock_one_head_row", "stock_our_products", "stock_compiled")
CHARTS = ("speedup", "stages", "batch")


def _charts(out: Path, document: Document) -> list[str]:
    try:
        from stillframe_lab.latency.charts import draw
    except ImportError:
        return []
    return draw(out, document)


_HEAD = (
    "model",
    "dtype",
    "row",
    "reuse",
    "passes",
    "p50 ms/frame",
    "p99",
    "vs stock",
    "vs our products",
    "roofline",
    "x",
)


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        row["model"],
        row["dtype"],
        named(row),
        f"{row['reuse_ratio']:.2f}",
        f"{row['passes_per_action']:.2f}",
        number(row["frame_ms"], 2),
        number(row["p99_ms"] / row["robots"], 2),
        f"{row['speedup_vs_stock']:.2f}x",
        _times(row["speedup_vs_stock_our_products"]),
        number(row["roofline"]["ms"] / row["robots"], 2),
        f"{row['roofline']['times']:.2f}",
    )


def _stage_table(document: Document, model: str) -> str:
    """Of one model: medians per robot's frame, stage by stage, and the comparisons."""
    head = (
        *("dtype", "row", "reuse", "passes", *STAGES, "p50, ms", "p99, ms", "p99 / p50", "worst, ms"),
        *("against stock", "one head row", "our products", "compiled"),
        *("roofline, ms", "times that", "bound by", "against in turn"),
    )
    return table(head, [_stage_row(row) for row in document["rows"] if row["model"] == model])


def _stage_row(row: Mapping[str, Any]) -> tuple[str, ...]:
    robots = row["robots"]
    stages = [number(row["stages_ms"].get(stage, 0.0) / robots, 2) for stage in STAGES]
    return (
        *(row["dtype"], named(row), f"{row['reuse_ratio']:.2f}", f"{row['passes_per_action']:.2f}", *stages),
        *(number(row["frame_ms"], 2), number(row["p99_ms"] / robots, 2), f"{row['p99_ms'] / row['p50_ms']:.2f}"),
        number(row["worst_ms"] / robots, 2) if "worst_ms" in row else "-",  # of a run before that was kept
        *(_times(row.get(f"speedup_vs_{key}")) for key in BASELINE_KEYS),
        *(number(row["roofline"]["ms"] / robots, 2), f"{row['roofline']['times']:.2f}", row["roofline"]["bound"]),
        _times(row["speedup_vs_in_turn"]),
    )


def _times(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}x"


def _machine_line(document: Document) -> str:
    machine = document["machine"]
    what = machine["cpu"] if machine["device"] == "cpu" else f"{machine['device']}, {machine['cpu']}"
    return (
        f"{what} ({machine['cpu_capability']}), {machine['threads']} thread(s), torch {machine['torch']}, "
        f"transformers {machine['transformers']}; times are {machine['clock']}"
        + ("; a short run" if document["quick"] else "")
    )


def _roofline_lines(roofline: Mapping[str, Any]) -> Iterator[str]:
    yield f"copies {roofline['copy_gb_per_s']:.1f} GB/s (bytes read and written)"
    for dtype, ways in roofline["gemm"].items():
        rates = ", ".join(
            f"{way} {found['gflop_per_s']:.0f} GFLOP/s ({' x '.join(map(str, found['shape']))})"
            for way, found in ways.items()
        )
        yield f"multiplies {dtype}: {rates}"


def _loop_lines(loop: Mapping[str, Any]) -> Iterator[str]:
    if "skipped" in loop:
        yield f"closed loop: {loop['skipped']}"
        return
    for row in loop["rows"]:
        step = row["step_ms"]
        yield (
            f"{loop['task']}, {row['name']}: {row['wins']}/{loop['episodes']} succeed, "
            f"{row['passes_per_action']:.2f} passes an action, reuse {row['reuse_ratio']:.2f}, a step takes "
            f"{step['p50']:.1f} ms (mean {step['mean']:.1f}, p99 {step['p99']:.1f}), "
            f"{row['speedup_vs_stock']:.2f}x stock (means {row['mean_speedup_vs_stock']:.2f}x)"
        )


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
