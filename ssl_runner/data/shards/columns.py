"""Parquet and arrow shards as the Hugging Face hub stores images: a column of bytes, a column of labels."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import IO, Any

import numpy as np

from ssl_runner.data.image_files.decode import common_size
from ssl_runner.data.shards.scan import LARGEST, PROBES, Scan

INSTALL = "pip install 'ssl-runner[shards]'"
LABELS = ("label", "labels", "cls", "class", "class_label", "target")  # columns that are labels by their name
ROWS = 32  # read at a time
INT64 = np.dtype("<i8")


@contextmanager
def open_columns(path: Path) -> Iterator[tuple[Any, Any]]:
    """Schema of a file, and a function that yields record batches of the columns that it is given.

    Raises ModuleNotFoundError without pyarrow, ValueError for what is no such file.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ModuleNotFoundError:
        raise ModuleNotFoundError(f"parquet and arrow shards need pyarrow; type {INSTALL}") from None
    try:
        with path.open("rb") as file:
            parquet = file.read(4) == b"PAR1"
        if parquet:
            with pq.ParquetFile(path) as file:
                yield file.schema_arrow, lambda columns: file.iter_batches(ROWS, columns=columns)
            return
        with pa.memory_map(str(path)) as mapped:
            try:
                reader = pa.ipc.open_stream(mapped)
                batches = iter(reader)
            except pa.ArrowInvalid:
                reader = pa.ipc.open_file(mapped)
                batches = (reader.get_batch(i) for i in range(reader.num_record_batches))
            yield reader.schema, lambda columns: (batch.select(columns) for batch in batches)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"no parquet or arrow file, or damaged ({error})") from error


def image_column(schema: Any, image_key: str | None) -> str:
    """The column of images: bytes, or a record of bytes and a path. Raises ValueError if there is none."""
    import pyarrow as pa

    for name in [image_key] if image_key else schema.names:
        kind = schema.field(name).type if name in schema.names else None
        if kind is not None and pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
            kind = kind.field("bytes").type
        if kind is not None and (pa.types.is_binary(kind) or pa.types.is_large_binary(kind)):
            return name
    given = f"no column {image_key} of images" if image_key else "no column of images"
    raise ValueError(f"{given} among {', '.join(schema.names)}; type dataset.image_key=COLUMN")


def label_column(schema: Any, label_key: str | None) -> tuple[str | None, tuple[str, ...]]:
    """The column of labels, if there is one, and the names of the classes if the file has them. Raises ValueError."""
    if label_key and label_key not in schema.names:
        raise ValueError(f"no column {label_key} among {', '.join(schema.names)}; type dataset.label_key=COLUMN")
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        names = {key: tuple(map(str, each["names"])) for key, each in features.items() if "names" in each}
    except (KeyError, TypeError, ValueError, AttributeError):
        names = {}
    candidates = [label_key] if label_key else [*names, *(name for name in LABELS if name in schema.names)]
    column = next((name for name in candidates if name in schema.names), None)
    return column, names.get(column or "", ())


def scan_columns(path: Path, image_key: str | None, label_key: str | None) -> Scan:
    """Labels of all rows; no image is read. Raises ValueError, ModuleNotFoundError."""
    with open_columns(path) as (schema, batches):
        image = image_column(schema, image_key)
        column, classes = label_column(schema, label_key)
        labels: list[str | None] = []
        for batch in batches([column] if column else [image]):
            values = batch.column(0).to_pylist() if column else [None] * batch.num_rows
            labels += [label_text(value, classes) for value in values]
    with open_columns(path) as (_, batches):
        probes = [content for batch in islice(batches([image]), 1) for content in contents(batch.slice(0, PROBES))]
    return Scan([(0, 0)] * len(labels), labels, classes=classes, pixels=common_size(probes))


def contents(batch: Any) -> Iterator[Any]:
    """The file of each image of a batch of one column; empty if there is none, or if it is too large."""
    values = batch.column(0)
    for value in values.field("bytes") if values.type.num_fields else values:
        content = value.as_py() or b""
        yield content if len(content) <= LARGEST else b""


def label_text(value: object, classes: tuple[str, ...]) -> str | None:
    """A label as text; None for null, for -1, which the hub's files have in its place, and for what is no class."""
    if isinstance(value, int) and not isinstance(value, bool):
        return None if value < 0 else classes[value] if value < len(classes) else str(value)
    return value.strip() or None if isinstance(value, str) else None


def unpack_columns(path: Path, to: IO[bytes], image_key: str | None) -> None:
    """Writes the files of the images one behind another, then where each begins and the last one ends, in int64.

    A row without bytes is an empty file. Raises ValueError, ModuleNotFoundError.
    """
    ends = [0]
    with open_columns(path) as (schema, batches):
        for batch in batches([image_column(schema, image_key)]):
            for content in contents(batch):
                ends.append(ends[-1] + len(content))
                to.write(content)
    to.write(np.array(ends, dtype=INT64).tobytes())


def unpacked_places(file: int, samples: int) -> np.ndarray:
    """(samples + 1,) of where each image begins in a file that was unpacked. Raises ValueError if it is another."""
    width = INT64.itemsize * (samples + 1)
    end = os.fstat(file).st_size - width
    places = np.frombuffer(os.pread(file, width, max(end, 0)), dtype=INT64)
    if len(places) != samples + 1 or places[0] or places[-1] != end or (np.diff(places) < 0).any():
        raise ValueError("what was unpacked of it is damaged")
    return places
