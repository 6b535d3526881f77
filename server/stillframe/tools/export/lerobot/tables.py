"""The Parquet files of a LeRobot dataset: frames, episodes, and tasks, the last as pandas writes an index.

Knows Arrow's types; no recording.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

FILES_PER_CHUNK = 1000
FILE_BYTES = 100 * 2**20  # of one file of frames, as Arrow holds them
INDEX = "__index_level_0__"  # pandas' name of an index without one


def file_name(folder: Path, number: int, suffix: str) -> Path:
    """The numbered file below `folder`, whose chunk's folder is made: chunk-000/file-000."""
    chunk, file = divmod(number, FILES_PER_CHUNK)
    made = folder / f"chunk-{chunk:03d}" / f"file-{file:03d}.{suffix}"
    made.parent.mkdir(parents=True, exist_ok=True)
    return made


def place_of(number: int) -> dict[str, int]:
    """Of the numbered file."""
    chunk, file = divmod(number, FILES_PER_CHUNK)
    return {"chunk_index": chunk, "file_index": file}


class FrameFiles:
    """Files of frames below `folder`; an episode is in one file."""

    def __init__(self, folder: Path):
        self.number = 0  # of the file that the last episode is in
        self._folder = folder
        self._writer: Any = None
        self._held_bytes = 0

    def add(self, columns: Mapping[str, NDArray[Any]], dtypes: Mapping[str, str]) -> None:
        """Write an episode: name -> values [frames, ...]."""
        arrays = {name: column(values, dtypes[name]) for name, values in columns.items()}
        table = pa.table(arrays)
        if self._writer is not None and self._held_bytes + table.nbytes > FILE_BYTES:
            self.close()
            self.number += 1
        if self._writer is None:
            self._writer = pq.ParquetWriter(file_name(self._folder, self.number, "parquet"), table.schema)
            self._held_bytes = 0
        self._held_bytes += table.nbytes
        self._writer.write_table(table)

    def close(self) -> None:
        """End the file."""
        if self._writer is not None:
            self._writer.close()
        self._writer = None


def column(values: NDArray[Any], dtype: str) -> Any:
    """Values [frames], or [frames, numbers], as Arrow has them: plain, or lists of a fixed length."""
    if dtype == "string":
        return pa.array([str(value) for value in values], pa.string())
    kind = pa.from_numpy_dtype(np.dtype(dtype))
    if values.ndim == 1:
        return pa.array(values, kind)
    return pa.array(values.tolist(), pa.list_(kind, values.shape[1]))


def write_episodes(folder: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """A row for each episode, statistics as nested lists."""
    pq.write_table(pa.Table.from_pylist([*map(dict, rows)]), file_name(folder, 0, "parquet"))


def write_tasks(file: Path, tasks: Sequence[str]) -> None:
    """A frame of pandas whose index are the tasks."""
    columns: list[dict[str, Any]] = [
        {"name": "task_index", "field_name": "task_index", "pandas_type": "int64", "numpy_type": "int64"},
        {"name": None, "field_name": INDEX, "pandas_type": "unicode", "numpy_type": "object"},
    ]
    described = {
        "index_columns": [INDEX],
        "column_indexes": [
            {"name": None, "field_name": None, "pandas_type": "unicode", "numpy_type": "object", "metadata": None}
        ],
        "columns": [{**each, "metadata": None} for each in columns],
        "creator": {"library": "pyarrow", "version": pa.__version__},
        "pandas_version": "2.0.0",
    }
    arrays = {"task_index": pa.array(range(len(tasks)), pa.int64()), INDEX: pa.array([*tasks], pa.string())}
    pq.write_table(pa.table(arrays).replace_schema_metadata({"pandas": json.dumps(described)}), file)
