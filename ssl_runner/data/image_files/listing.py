"""Walk through folders of image files: what is read, in natural order, and what is left out and why."""

import fnmatch
import os
import re
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ssl_runner.data.image_files.decode import REMEDIES, readable
from ssl_runner.errors import printable
from ssl_runner.run_folder import layout

# Names that stand together in a folder of a run, of an export or of a sweep only: pictures below it are no samples.
MARKS = (
    *({layout.CONFIG, each} for each in (layout.OVERRIDES, layout.CHECKPOINTS)),
    *({layout.SUMMARY, each} for each in (layout.METRICS, layout.ENVIRONMENT)),
    {layout.WEIGHTS, layout.ENCODER},
    {layout.SWEEP},
)
EVENTS = re.compile(fnmatch.translate(layout.EVENTS))  # of a result's folder too, in which its pictures are
SYSTEM = ("__macosx", "@eadir", "$recycle.bin", "lost+found")  # folders that hold copies and previews, if any images
ARCHIVES = (".7z", ".bz2", ".gz", ".parquet", ".rar", ".tar", ".tfrecord", ".tgz", ".xz", ".zip", ".zst")
FOREIGN = (".arw", ".cr2", ".cr3", ".dcm", ".dng", ".exr", ".hdr", ".ico", ".jxl", ".nef", ".nii", ".orf", ".pfm")
FOREIGN += (".psd", ".raf", ".rw2", ".svg", ".xcf")  # images that are not read
REASONS = {**dict.fromkeys(ARCHIVES, "unpack it"), **dict.fromkeys(FOREIGN, "not read; save as PNG or TIFF")}
LONGEST = 12  # letters of a suffix; a longer one is none


@dataclass
class Listing:
    files: list[str] = field(default_factory=list)  # below the folder, `/` between names, in natural order
    # How many were left out for each reason, by the topmost folder that they lie in; "" for none. All folders are keys.
    left_out: dict[str, Counter[str]] = field(default_factory=dict)
    unread: list[str] = field(default_factory=list)  # folders that cannot be read, and why


def natural_key(name: str) -> tuple:
    """A sort key that has 9 before 10 and a beside A."""
    # By place, every second one being a number: ² and ١ are digits too, to Python, and no numbers of ours.
    return [int(t) if i % 2 else t for i, t in enumerate(re.split(r"([0-9]+)", name.casefold()))], name


def list_images(root: Path, without: Collection[str] = (), aside: Path | None = None) -> Listing:
    """Image files below a folder, by their suffix, in any case; no other file is opened.

    Links are followed, but to a folder that lies above them. without: names in the folder that are passed over. aside:
    a folder that is passed over as well, wherever and by whatever link one comes to it, unless root lies in it.
    Raises OSError if the folder itself cannot be read.
    """
    listing = Listing()
    apart = aside and aside.resolve()
    apart = None if apart and root.resolve().is_relative_to(apart) else apart
    pending: list[tuple[str, frozenset | None]] = [("", frozenset())]  # and the folders above; None for a file
    while pending:
        place, above = pending.pop()
        if above is None:
            listing.files.append(place)
            continue
        outside = listing.left_out.setdefault(place.rpartition("/")[0].partition("/")[0], Counter())
        try:
            stat = os.stat(path := f"{root}/{place}")  # noqa: PTH116  pathlib takes a path apart at every level
            with os.scandir(path) as scanned:
                entries = sorted(scanned, key=lambda entry: natural_key(entry.name), reverse=True)
        except OSError as error:
            if not place:
                raise
            listing.unread.append(f"{printable(place)}/ ({error.strerror})")
            continue
        if apart and Path(path).resolve().is_relative_to(apart):
            continue
        names = {entry.name for entry in entries}
        if (stat.st_dev, stat.st_ino) in above:
            outside["link to a folder above it"] += 1
            continue
        if place and (any(mark <= names for mark in MARKS) or any(map(EVENTS.match, names))):
            outside["folder of a run"] += 1
            continue
        left_out = listing.left_out.setdefault(place.partition("/")[0], Counter())
        above |= {(stat.st_dev, stat.st_ino)}
        for entry in entries:
            kind = classify(entry)
            if kind in ("folder", "image") and (place or entry.name not in without):
                pending.append((f"{place}/{entry.name}".lstrip("/"), above if kind == "folder" else None))
            elif kind not in ("folder", "image"):
                left_out[kind] += 1
    return listing


def classify(entry: os.DirEntry[str]) -> Literal["folder", "image"] | str:
    """What an entry of a folder is, or why it is left out."""
    name = entry.name.lower()
    if name.startswith(".") or name in SYSTEM:
        return "hidden"
    try:
        if entry.is_dir():
            return "folder"
        # A link to nothing is an image that cannot be read: a disk may be missing.
        is_file = entry.is_file() or (entry.is_symlink() and not Path(entry.path).exists())
    except OSError as error:  # a link to itself
        return f"link that cannot be followed ({error.strerror})"
    if not is_file:
        return "no file (pipe, socket or device)"
    suffix = os.path.splitext(name)[1]  # noqa: PTH122  a million names
    if suffix in readable():
        return "image"
    if suffix in REMEDIES:
        return f"{suffix} (needs: {REMEDIES[suffix]})"
    if not 1 < len(suffix) <= LONGEST:
        return "without suffix (no image)"
    return f"{printable(suffix)} ({REASONS.get(suffix, 'no image')})"
