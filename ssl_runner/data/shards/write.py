"""Writers of shards: WebDataset tar files, and parquet files as the Hugging Face hub stores images."""

import io
import json
import tarfile
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import IO, NamedTuple

from ssl_runner.data.shards.columns import INSTALL
from ssl_runner.data.shards.tar import LABEL

GROUP = 100  # rows of parquet that are read together, as on the hub


class Sample(NamedTuple):
    number: int  # in its part
    name: str  # of its file, below the folder
    content: bytes
    label: int  # -1: none


def write_tar(to: IO[bytes], samples: Iterable[Sample], classes: Sequence[str]) -> None:
    """Members 00000042.jpg and 00000042.cls, without times and owners: the same images are the same bytes."""
    with tarfile.open(fileobj=to, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for sample in samples:
            files = {sample.name.rpartition(".")[2].lower(): sample.content}
            files |= {LABEL: str(sample.label).encode()} if sample.label >= 0 else {}
            for key, content in files.items():
                member = tarfile.TarInfo(f"{sample.number:08d}.{key}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))


def write_parquet(to: IO[bytes], samples: Iterable[Sample], classes: Sequence[str]) -> None:
    """Columns image, a record of bytes and path, and label, -1 for none. Raises ModuleNotFoundError."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ModuleNotFoundError:
        raise ModuleNotFoundError(f"--format parquet needs pyarrow; type {INSTALL}") from None
    label = {"names": list(classes), "_type": "ClassLabel"} if classes else {"dtype": "int64", "_type": "Value"}
    features = {"info": {"features": {"image": {"_type": "Image"}, "label": label}}}
    image = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    schema = pa.schema({"image": image, "label": pa.int64()}, metadata={"huggingface": json.dumps(features)})
    rows = ({"image": {"bytes": each.content, "path": each.name}, "label": each.label} for each in samples)
    # Photographs are compressed already.
    with pq.ParquetWriter(to, schema, compression="none") as writer:
        while group := list(islice(rows, GROUP)):
            writer.write_table(pa.Table.from_pylist(group, schema=schema))


WRITERS = {"webdataset": (".tar", write_tar), "parquet": (".parquet", write_parquet)}
