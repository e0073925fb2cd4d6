"""Pictures of views and reconstructions in TensorBoard's event files, for a page."""

import base64
import struct
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from ssl_runner.comparison.statistics import Group
from ssl_runner.run_folder.atomic import read_file
from ssl_runner.run_folder.layout import EVENTS

MOST = 3_000_000  # bytes of all pictures of a page
GROUPS = 24  # whose first run is looked at


def page_pictures(groups: Iterable[Group]) -> dict[str, list[dict[str, Any]]]:
    """By the name of a run, the newest picture of each kind: of one run of each of the first groups."""
    pictures: dict[str, list[dict[str, Any]]] = {}
    left = MOST
    for _, group in zip(range(GROUPS), groups, strict=False):
        run = group.runs[0]
        newest = read_pictures(run.folder)
        left -= sum(len(content) for _, content in newest.values())
        if left < 0:
            break
        if newest:
            pictures[run.name] = [
                {"name": name, "step": step, "png": base64.b64encode(content).decode()}
                for name, (step, content) in sorted(newest.items())
            ]
    return pictures


def read_pictures(folder: Path) -> dict[str, tuple[int, bytes]]:
    """The newest PNG of each tag with its step. Files that are torn or foreign give what can be read."""
    from tensorboard.compat.proto.event_pb2 import Event

    newest: dict[str, tuple[int, bytes]] = {}
    for file in sorted(folder.glob(EVENTS)):
        with suppress(Exception):  # a damaged file can raise anything
            for record in read_records(read_file(file)):
                event = Event.FromString(record)
                for value in event.summary.value:
                    content = value.image.encoded_image_string
                    if content.startswith(b"\x89PNG") and event.step >= newest.get(value.tag, (0, b""))[0]:
                        newest[value.tag] = event.step, content
    return newest


def read_records(content: bytes) -> Iterator[bytes]:
    """Records of a TFRecord file: a length of eight bytes, four of a checksum, the record, four of its checksum."""
    place = 0
    while place + 12 <= len(content):
        (size,) = struct.unpack_from("<Q", content, place)
        if place + 16 + size > len(content):
            return
        yield content[place + 12 : place + 12 + size]
        place += 16 + size
