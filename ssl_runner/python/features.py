"""Feature extraction: images as tensors, arrays, files or Pillow's own to rows of numbers, by a trained encoder."""

import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ssl_runner.contract import Encoder, Samples
from ssl_runner.data.image_files.decode import open_image, read_image
from ssl_runner.data.image_files.depth import sampled_range
from ssl_runner.data.image_files.source import Source
from ssl_runner.device.placement import Placement
from ssl_runner.encoder.load import TrainedEncoder, load_encoder
from ssl_runner.engine.learner import frozen
from ssl_runner.layers.weights import device_of

Place: TypeAlias = str | os.PathLike[str]
File: TypeAlias = Place | bytes | Image.Image
ROUNDING = 1e-3  # that values of images may lie outside [0, 1]
BATCH = 256  # images that are decoded and encoded together


def load(run: Place) -> Encoder:
    """The encoder of a run, a run folder, a checkpoint in it or an exported file, on the CPU and in eval mode.

    It normalises by itself: `load("outputs/RUN")(images).pooled`, of images float32 in [0, 1]. Raises ValueError or
    OSError with what is wrong and what to give instead.
    """
    return load_encoder(Path(run))


def features(
    encoder: Encoder | Place,
    images: "Tensor | np.ndarray | Sequence[File]",
    *,
    batch_size: int = BATCH,
    resize: Literal["crop", "squash"] = "crop",
) -> Tensor:
    """Pooled features of images, (N, dim) float32 on the CPU, computed where the encoder is.

    encoder: what `load` returns, or what it takes.
    images: (N, C, H, W) uint8, or floating point in [0, 1]; an array may have its channels last. Or files, by path or
        content, and Pillow's images, of any size: they are decoded to the size of the encoder's samples as `resize`
        says: the centred square, or all of the image with its sides made equal.
    Texts and sounds are given as tensors, as the dataset stores them.
    Raises ValueError for images that the encoder cannot take, and what Pillow makes of a broken file.
    """
    model = encoder if isinstance(encoder, Encoder) else load(encoder)
    samples: Samples | None = vars(model).get("samples")
    device, parts = device_of(model), []
    with frozen(model):
        for first in range(0, len(images), batch_size):
            part = images[first : first + batch_size]
            x = as_tensor(part, samples) if isinstance(part, Tensor | np.ndarray) else decoded(part, samples, resize)
            parts.append(model(x.to(device)).pooled.float().cpu())
    return torch.cat(parts) if parts else torch.zeros(0, model.dim)


def as_tensor(x: "Tensor | np.ndarray", samples: Samples | None) -> Tensor:
    """Samples as an encoder takes them. Raises ValueError for images of another layout or range."""
    x = torch.as_tensor(x)
    kind, channels = ("image", None) if samples is None else (samples.kind, samples.shape[0])
    if samples is not None and kind != "image":
        return samples.from_rows(x)
    if x.ndim == 4 and x.shape[3] in (1, 3) and x.shape[1] not in (1, 3):  # as NumPy, Pillow and OpenCV have them
        x = x.permute(0, 3, 1, 2)
    if x.ndim != 4 or channels not in (None, x.shape[1]):
        wanted = f"(any number, {channels or 'channels'}, height, width)"
        raise ValueError(f"images: given shape {tuple(x.shape)}, and the encoder takes {wanted}")
    if not x.is_floating_point():
        if x.dtype != torch.uint8:
            raise ValueError(f"images: given {x.dtype}; give torch.uint8, or floating point in [0, 1]")
        return x.float() / 255
    low, high = (each.item() for each in x.aminmax())
    if not -ROUNDING <= low <= high <= 1 + ROUNDING:
        raise ValueError(f"images: values from {low:.3g} to {high:.3g}; give [0, 1]: the encoder normalises by itself")
    return x.float()


def decoded(files: Sequence[File], samples: Samples | None, resize: Literal["crop", "squash"]) -> Tensor:
    """Files at the size of an encoder's samples. Raises ValueError if that is not known."""
    if samples is None or samples.kind != "image":
        raise ValueError("images: give tensors, or an encoder of images that ssl_runner.load has loaded")
    if isinstance(files, str | bytes):
        raise ValueError(f"images: given one file; give a list of them, as [{files!r:.40}]")
    size, channels = samples.shape[1], samples.shape[0]
    arrays = [read_image(content_of(each), size, 1 if channels == 1 else 3, resize) for each in files]
    return torch.from_numpy(np.stack(arrays)).float() / 255


def content_of(file: File) -> Path | bytes:
    """A file as the decoder takes it: its path, or what is in it."""
    if isinstance(file, Image.Image):
        content = io.BytesIO()
        file.save(content, "TIFF")  # which takes every mode
        return content.getvalue()
    return file if isinstance(file, bytes) else Path(file)


def embed(
    source: TrainedEncoder, folder: Path, names: Sequence[str], device: Placement
) -> tuple[list[str], Tensor, list[str]]:
    """Features of image files below a folder, read as the run has read its own; paths, and what cannot be read.

    The paths are those of the files that can be read, (N,), beside (N, dim) float32 on the CPU.
    """
    own = (source.content or {}).get("dataset", {})
    resize: Literal["crop", "squash"] = "squash" if own.get("resize") == "squash" else "crop"
    channels: Literal[1, 3] = 1 if source.samples.shape[0] == 1 else 3
    size, paths = source.samples.shape[1], [folder / name for name in names]
    pixels = sampled_range(paths, own.get("range", "auto"), lambda path: open_image(path, size))
    rows = Source(folder.absolute(), names, size, channels, resize, len(names), pixels=pixels)
    encoder, kept, unreadable, parts = device.place(source.encoder), [], [], []
    for first in range(0, len(names), BATCH):
        index = range(first, min(first + BATCH, len(names)))
        images, broken = rows.read(index)
        unreadable += rows.describe(broken)
        whole = [i for i in index if i not in broken]
        kept += [names[i] for i in whole]
        if whole:
            parts.append(features(encoder, images[[i - first for i in whole]]))
    return kept, torch.cat(parts) if parts else torch.zeros(0, encoder.dim), unreadable
