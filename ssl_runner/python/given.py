"""What a user gives as samples, as an encoder takes them: images, texts and sounds, a function a kind."""

import io
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ssl_runner.contract import Encoder, Samples
from ssl_runner.data.audio_files.decode import Sound, read_clips
from ssl_runner.data.image_files.decode import read_image
from ssl_runner.data.text_files.reading_back import tokenise_of
from ssl_runner.errors import printable

Place: TypeAlias = str | os.PathLike[str]
Given: TypeAlias = Place | bytes | Image.Image | tuple[np.ndarray, int]
Resize: TypeAlias = Literal["crop", "squash"]
Batch: TypeAlias = Tensor | list[Tensor]  # samples (B, *shape), or the clips (r, 1, T) of each of B sounds
PLURAL = {"image": "images", "text": "texts", "audio": "sounds"}
ROUNDING = 1e-3  # that values of images may lie outside [0, 1]


def batches_of(
    samples: "Tensor | np.ndarray | Sequence[Given]", encoder: Encoder, batch_size: int, resize: Resize
) -> Iterator[Batch]:
    """Samples as `features` takes them, some at a time. Raises ValueError for what the encoder cannot take."""
    own: Samples | None = vars(encoder).get("samples")
    if isinstance(samples, str | bytes | os.PathLike):
        raise ValueError(f"samples: given one file or text; give a list of them, as [{samples!r:.40}]")
    if isinstance(samples, Tensor) or (isinstance(samples, np.ndarray) and samples.dtype.kind not in "OSU"):
        whole = laid_out(samples, own)
        yield from (in_range(part, own) for part in whole.split(batch_size) if len(part))
        return
    given: list[Any] = list(samples)
    if own is None:
        raise ValueError("samples: give tensors, or an encoder that ssl_runner.load has loaded")
    parts = (given[i : i + batch_size] for i in range(0, len(given), batch_size))
    if own.kind == "audio":
        yield from together((clips_of(each, own) for each in given), batch_size)
    elif own.kind == "text":
        yield from (tokenised(part, own, vars(encoder)["assets"]) for part in parts)
    else:
        yield from (decoded(part, own, resize) for part in parts)


def laid_out(x: "Tensor | np.ndarray", own: Samples | None) -> Tensor:
    """A tensor of samples with the channels of images first. Raises ValueError for those of another layout."""
    x = torch.as_tensor(x)
    if own is not None and own.kind != "image":
        if x.ndim != 1 + len(own.shape):
            wanted = f"(any number, {', '.join(map(str, own.shape))})"
            raise ValueError(f"{PLURAL[own.kind]}: given shape {tuple(x.shape)}, and the encoder takes {wanted}")
        return x
    channels = None if own is None else own.shape[0]
    if x.ndim == 4 and x.shape[3] in (1, 3) and x.shape[1] not in (1, 3):  # as NumPy, Pillow and OpenCV have them
        x = x.permute(0, 3, 1, 2)
    if x.ndim != 4 or channels not in (None, x.shape[1]):
        wanted = f"(any number, {channels or 'channels'}, height, width)"
        raise ValueError(f"images: given shape {tuple(x.shape)}, and the encoder takes {wanted}")
    return x


def in_range(x: Tensor, own: Samples | None) -> Tensor:
    """Samples as an encoder takes them. Raises ValueError for images of another range."""
    if own is not None and own.kind != "image":
        return own.from_rows(x)
    if not x.is_floating_point():
        if x.dtype != torch.uint8:
            raise ValueError(f"images: given {x.dtype}; give torch.uint8, or floating point in [0, 1]")
        return x.float() / 255
    low, high = (each.item() for each in x.aminmax())
    if not -ROUNDING <= low <= high <= 1 + ROUNDING:
        raise ValueError(f"images: values from {low:.3g} to {high:.3g}; give [0, 1]: the encoder normalises by itself")
    return x.float()


def decoded(files: Sequence[Any], own: Samples, resize: Resize) -> Tensor:
    """Files at the size of an encoder's samples."""
    channels: Literal[1, 3] = 1 if own.shape[0] == 1 else 3
    arrays = [read_image(content_of(each), own.shape[1], channels, resize) for each in files]
    return torch.from_numpy(np.stack(arrays)).float() / 255


def content_of(file: Place | bytes | Image.Image) -> Path | bytes:
    """A file as the decoder takes it: its path, or what is in it."""
    if isinstance(file, Image.Image):
        content = io.BytesIO()
        file.save(content, "TIFF")  # which takes every mode
        return content.getvalue()
    return file if isinstance(file, bytes) else Path(file)


def tokenised(texts: Sequence[Any], own: Samples, assets: Mapping[str, bytes]) -> Tensor:
    """Texts as an encoder's samples, (B, L) int64. Raises ValueError for what is no text, or has no token."""
    tokenise = tokenise_of(assets, own)
    if tokenise is None:
        raise ValueError(f"texts: no tokenizer was kept with this encoder; give ids, (any number, {own.shape[0]})")
    for text in texts:
        if not isinstance(text, str):
            files = "for files type ssl-runner embed RUN PLACE"
            raise ValueError(f"texts: given {text!r:.40} ({type(text).__name__}); give strings; {files}")
    x = own.from_rows(tokenise(texts))
    if len(empty := (~x.any(1)).nonzero()):
        raise ValueError(f"texts: {texts[int(empty[0])]!r:.40} has no token; leave it out, as data sets do")
    return x


def clips_of(given: Any, own: Samples) -> Tensor:
    """The clips of a sound, (r, 1, T) float32 in [-1, 1]. Raises ValueError for what is none, or silent."""
    sound: Sound = given
    if isinstance(given, str | os.PathLike):
        sound = Path(given)
    elif not isinstance(given, bytes):
        sound = checked_wave(given)
    try:
        return own.from_rows(torch.from_numpy(read_clips(sound, own.rate, own.shape[1])))
    except ValueError as error:
        name = printable(sound) if isinstance(sound, Path) else "a sound"
        raise ValueError(f"sounds: {name}: {error}") from None


def checked_wave(given: Any) -> tuple[np.ndarray, int]:
    """A pair (wave, rate), floating point. Raises ValueError for what is none."""
    if not (isinstance(given, tuple) and len(given) == 2 and isinstance(given[0], np.ndarray)):
        wanted = "give paths, contents of files, or pairs (array, rate)"
        raise ValueError(f"sounds: given {type(given).__name__}; {wanted}")
    wave, rate = given
    wave = wave / 32768 if wave.dtype == np.int16 else wave
    if wave.ndim not in (1, 2) or wave.dtype.kind != "f" or (wave.ndim == 2 and wave.shape[0] < wave.shape[1]):
        wanted = "give floating point or int16, of the shape (n,) or (n, channels)"
        raise ValueError(f"sounds: given {wave.dtype} of the shape {wave.shape}; {wanted}")
    return wave, rate


def together(sounds: Iterable[Tensor], batch_size: int) -> Iterator[list[Tensor]]:
    """Sounds until they have about so many clips, and again: recordings may be hours long."""
    waiting: list[Tensor] = []
    for clips in sounds:
        waiting.append(clips)
        if sum(map(len, waiting)) >= batch_size:
            yield waiting
            waiting = []
    if waiting:
        yield waiting
