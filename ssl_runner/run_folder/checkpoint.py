"""Checkpoints: written whole or not at all, the newest readable one found again."""

import contextlib
import hashlib
import io
import logging
import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from ssl_runner.run_folder.atomic import HALVES, write

FORMAT = 1
SEAL = b"ssl_runner blake2b "  # begins the comment
log = logging.getLogger("ssl_runner")


class Unreadable(Exception):
    """A checkpoint that is torn, or of another program, or of another format."""


def save(folder: Path, step: int, state: Mapping[str, Any], keep: int) -> Path:
    """Writes `folder/0005000.pt` and then removes all but the newest `keep`. Raises OSError and removes nothing."""
    buffer = io.BytesIO()
    torch.save({"format": FORMAT, "step": step, **state}, buffer)
    path = folder / f"{step:07d}.pt"
    seal(buffer)
    write(path, buffer.getbuffer())
    torn = (each for pattern in (HALVES, ".*.tmp") for each in folder.glob(pattern))  # .tmp: before version 0.2
    for old in (*steps(folder)[:-keep], *torn):
        with contextlib.suppress(OSError):  # it may be a folder; and what is written is written
            old.unlink()
    return path


def seal(archive: io.BytesIO) -> None:
    """Gives a zip archive a digest of itself as its comment: the checksums in it guard its members alone."""
    with archive.getbuffer() as content:
        comment = SEAL + hashlib.blake2b(content, digest_size=16).hexdigest().encode()
    archive.seek(-2, io.SEEK_END)  # its last two bytes say how long the comment is
    archive.write(len(comment).to_bytes(2, "little") + comment)


def is_sound(content: bytes) -> bool:
    """Whether an archive is what was sealed, or was never sealed."""
    if (end := content.rfind(SEAL)) < 0:
        return True
    digest = hashlib.blake2b(memoryview(content)[: max(0, end - 2)], digest_size=16)
    digest.update(bytes(2))
    return digest.hexdigest().encode() == content[end + len(SEAL) :]


def steps(folder: Path) -> list[Path]:
    """The checkpoints in a folder, oldest first."""
    return sorted((p for p in folder.glob("*.pt") if re.fullmatch(r"[0-9]+", p.stem)), key=lambda p: int(p.stem))


def load(path: Path) -> dict[str, Any]:
    """Raises Unreadable with the reason."""
    try:
        if not path.is_file() or not zipfile.is_zipfile(path):  # which reads its end: a sparse file may be of gigabytes
            raise ValueError("it is torn, or no file of torch")
        file = io.BytesIO(path.read_bytes())
        with zipfile.ZipFile(file) as archive:
            damaged = archive.testzip()  # torch itself does not look at the checksums
        if damaged is not None or not is_sound(file.getvalue()):
            raise ValueError(f"{damaged or 'its directory'} is damaged")
        file.seek(0)
        state = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # a torn pickle can raise anything
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise Unreadable(f"{path} cannot be read ({reason})") from None
    if not isinstance(state, dict) or not isinstance(state.get("step"), int) or "format" not in state:
        raise Unreadable(f"{path} is no checkpoint of ssl_runner")
    if path.stem.isdecimal() and state["step"] != int(path.stem):  # a copy may have another name
        raise Unreadable(f"{path} is of step {state['step']}, which is not its name")
    if state["format"] != FORMAT:
        raise Unreadable(f"{path} has format {state['format']}, and this version of ssl_runner reads format {FORMAT}")
    return state


def newest_first(folder: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """The checkpoints that can be read; each one that cannot is named in the log."""
    for path in reversed(steps(folder)):
        try:
            yield path, load(path)
        except Unreadable as reason:
            log.warning("%s; trying the one before it", reason)
