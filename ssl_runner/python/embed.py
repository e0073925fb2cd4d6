"""Features of all images, texts or sounds of a folder or a file, read as the run has read its own."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from ssl_runner.contract import Samples
from ssl_runner.data.audio_files.decode import read_clips, soundfile
from ssl_runner.data.audio_files.listing import list_recordings
from ssl_runner.data.image_files.decode import open_image
from ssl_runner.data.image_files.depth import sampled_range
from ssl_runner.data.image_files.listing import list_images
from ssl_runner.data.image_files.source import Source
from ssl_runner.data.text_files.listing import text_files
from ssl_runner.data.text_files.reading import cut_text, read_file
from ssl_runner.device.placement import Placement
from ssl_runner.encoder.load import TrainedEncoder
from ssl_runner.errors import printable
from ssl_runner.python.features import BATCH, encode
from ssl_runner.python.given import PLURAL, Batch, together, tokenised


@dataclass
class Found:
    """What was found in a place; of what can be read, a row each."""

    paths: list[str] = field(default_factory=list)  # below the folder
    numbers: list[int] | None = None  # of a text: its line, row or piece in the file, from 1; None for other kinds
    unreadable: list[str] = field(default_factory=list)  # files that are left out, and why


def embed(source: TrainedEncoder, place: Path, device: Placement, how: Mapping[str, Any]) -> tuple[Found, Tensor]:
    """What was found in a folder or file, N samples, and their features, (N, dim) float32 on the CPU.

    how: keys of the run's dataset that are to be others, as `unit` and `text`.
    Raises ValueError if nothing there is of the encoder's kind, or the tokenizer is not there.
    """
    own = {**((source.content or {}).get("dataset") or {}), **how}
    encoder, samples, found = device.place(source.encoder), source.samples, Found()
    if samples.kind == "text":
        texts = read_keyed(place, own, samples, found)
        parts = range(0, len(texts), BATCH)
        batches: Iterator[Batch] = (tokenised(texts[i : i + BATCH], samples, source.assets) for i in parts)
        return found, encode(encoder, batches, len(texts))
    folder, names = place, [place.name]
    if place.is_file():
        folder = place.parent
    else:
        names = list_images(place).files if samples.kind == "image" else list_recordings(place)[0]
    if not names:
        raise ValueError(f"PLACE: {printable(place)} holds no {PLURAL[samples.kind]}")
    if samples.kind == "image":
        return found, encode(encoder, images(folder, names, own, samples, found), len(names))
    return found, encode(encoder, together(sounds(folder, names, samples, found), BATCH), len(names))


def images(folder: Path, names: list[str], own: Mapping[str, Any], samples: Samples, found: Found) -> Iterator[Tensor]:
    resize: Literal["crop", "squash"] = "squash" if own.get("resize") == "squash" else "crop"
    channels: Literal[1, 3] = 1 if samples.shape[0] == 1 else 3
    size, paths = samples.shape[1], [folder / name for name in names]
    pixels = sampled_range(paths, own.get("range", "auto"), lambda path: open_image(path, size))
    rows = Source(folder.absolute(), names, size, channels, resize, len(names), pixels=pixels)
    for first in range(0, len(names), BATCH):
        index = range(first, min(first + BATCH, len(names)))
        read, broken = rows.read(index)
        found.unreadable += rows.describe(broken)
        whole = [i for i in index if i not in broken]
        found.paths += [names[i] for i in whole]
        if whole:
            yield samples.from_rows(torch.from_numpy(read[[i - first for i in whole]]))


def sounds(folder: Path, names: list[str], samples: Samples, found: Found) -> Iterator[Tensor]:
    soundfile()  # or what to type for it
    for name in names:
        try:
            clips = read_clips(folder / name, samples.rate, samples.shape[1])
        except Exception as problem:  # libsndfile's errors, and numpy's of what it returned
            found.unreadable.append(printable(f"{name} ({problem})"))
        else:
            found.paths.append(name)
            yield samples.from_rows(torch.from_numpy(clips))


def read_keyed(place: Path, own: Mapping[str, Any], samples: Samples, found: Found) -> list[str]:
    """Texts as text_folder has them, without those that are empty."""
    unit, column, texts = own.get("unit", "line"), own.get("text"), []
    found.numbers = []
    try:
        files, _ = text_files(place)
    except FileNotFoundError as error:
        raise ValueError(f"PLACE: {str(error).partition(';')[0]}") from None
    for file in files:
        name = file.name if place.is_file() else file.relative_to(place).as_posix()
        try:
            read = [each.text for each in read_file(file, unit, column, None)]
        except (OSError, ValueError) as problem:
            found.unreadable.append(printable(problem))
            continue
        if unit == "chunk":
            read = [piece for text in read for piece in cut_text(text, own.get("tokenizer", ""), samples.shape[0])]
        kept = [(number, text) for number, text in enumerate(read, 1) if text.strip()]
        found.paths += [name] * len(kept)
        found.numbers += [number for number, _ in kept]
        texts += [text for _, text in kept]
    return texts
