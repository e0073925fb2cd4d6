"""Samples of a WebDataset tar shard: where the bytes of each image lie, and its label. Nothing is unpacked."""

import os
import tarfile
from collections import Counter
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

from ssl_runner.data.image_files.decode import common_size, readable
from ssl_runner.data.shards.scan import LARGEST, PROBES, Scan

LABEL = "cls"
LONGEST = 1024  # bytes of a label


def scan_tar(path: Path, image_key: str | None, label_key: str | None) -> Scan:
    """All samples, in order. Members are known by the name up to the first dot, and by the rest of it.

    image_key, label_key: that rest of the names of images and labels, as in `jpg`; by default the first image of a
    sample, and `cls`. Links, devices and sparse members are left out. Raises ValueError for what is no tar, or is cut
    short.
    """
    left_out: Counter[str] = Counter()
    places, labels = [], []
    try:
        with path.open("rb") as file, tarfile.open(fileobj=file, mode="r:") as tar:
            for _, members in groupby(regular_members(tar, left_out), key=lambda each: each[0]):
                image = label = None
                for _, key, member in members:
                    if key == (label_key or LABEL):
                        label = member
                    elif is_image(key, image_key) and image is None:
                        image = member
                    elif is_image(key, None):
                        left_out["further image of a sample"] += 1
                if image is None or image.size > LARGEST:
                    left_out["sample without image" if image is None else "image of more than 256 MiB"] += 1
                    continue
                places.append((image.offset_data, image.size))
                labels.append(read_label(file, label))
            pixels = common_size([os.pread(file.fileno(), size, place) for place, size in places[:PROBES]])
    except (tarfile.TarError, EOFError, OverflowError) as error:
        raise ValueError(f"no tar, or damaged ({error})") from error
    return Scan(places, labels, left_out, pixels=pixels)


def regular_members(tar: tarfile.TarFile, left_out: Counter[str]) -> Iterator[tuple[str, str, tarfile.TarInfo]]:
    """Sample, key and member of each regular file. Raises ValueError for one of a negative size."""
    for member in tar:
        if member.size < 0:  # older tarfiles read it for ever
            raise ValueError(f"damaged: the member at byte {member.offset:,} has {member.size:,} bytes")
        tar.members.clear()  # else it keeps all of them
        folder, _, name = member.name.rpartition("/")
        sample, _, key = name.partition(".")
        if member.isdir():
            continue
        if not member.isreg() or member.issparse():
            left_out["link, device or sparse file"] += 1
        elif sample:
            yield f"{folder}/{sample}", key.lower(), member
        else:
            left_out["hidden"] += 1


def is_image(key: str, image_key: str | None) -> bool:
    return key == image_key.lower() if image_key else f".{key.rpartition('.')[2]}" in readable()


def read_label(file, label: tarfile.TarInfo | None) -> str | None:
    """The text of a label; None if there is none, or if it is too long to be one."""
    if label is None or label.size > LONGEST:
        return None
    here = file.tell()
    file.seek(label.offset_data)
    text = file.read(label.size).decode(errors="replace").strip()
    file.seek(here)
    return text or None
