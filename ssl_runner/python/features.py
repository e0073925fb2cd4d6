"""Feature extraction by a trained encoder: images, texts or sounds, as tensors, arrays or files, to rows of numbers."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ssl_runner.contract import Encoder
from ssl_runner.duration import Phase
from ssl_runner.encoder.load import load_encoder
from ssl_runner.engine.learner import frozen
from ssl_runner.layers.weights import device_of
from ssl_runner.python.given import Batch, Given, Place, Resize, batches_of

BATCH = 256  # samples that are decoded and encoded together


def load(run: Place) -> Encoder:
    """The encoder of a run, a run folder, a checkpoint in it or an exported file, on the CPU and in eval mode.

    It normalises by itself: `load("outputs/RUN")(images).pooled`, of images float32 in [0, 1]. Its `samples` says what
    it takes, its `assets` has what was kept with it, such as a tokenizer. Raises ValueError or OSError with what is
    wrong and what to give instead.
    """
    return load_encoder(Path(run))


def features(
    encoder: Encoder | Place,
    samples: "Tensor | np.ndarray | Sequence[Given]",
    *,
    batch_size: int = BATCH,
    resize: Resize = "crop",
) -> Tensor:
    """Pooled features of images, texts or sounds, (N, dim) float32 on the CPU, computed where the encoder is.

    encoder: what `load` returns, or what it takes.
    samples: as the encoder's are.
        Images: (N, C, H, W) uint8, or floating point in [0, 1]; an array may have its channels last. Or files, by path
        or content, and Pillow's images, of any size: they are decoded to the size of the encoder's samples as `resize`
        says: the centred square, or all of the image with its sides made equal.
        Texts: strings. They are cut into tokens by the run's own tokenizer, padded or cut off at its length. Or ids,
        (N, L) integers, 0 for padding.
        Sounds: files, by path or content, or pairs of a wave, (n,) or (n, channels) in [-1, 1], and its rate in Hz.
        They are mixed down, resampled, and cut or padded to clips of the encoder's length as a data set's are; the
        features of a longer one are the mean of its clips'. Or clips, (N, 1, T) int16, or floating point in [-1, 1].
    batch_size: samples, or clips, that are encoded together.
    Raises ValueError for samples that the encoder cannot take, a text or sound that is empty among them, and what
    Pillow or libsndfile makes of a broken file.
    """
    model = encoder if isinstance(encoder, Encoder) else load(encoder)
    return encode(model, batches_of(samples, model, batch_size, resize), len(samples), batch_size)


def encode(model: Encoder, batches: Iterable[Batch], total: int, batch_size: int = BATCH) -> Tensor:
    """Pooled features of samples, (N, dim) float32 on the CPU; of a sound, the mean of its clips'.

    total: about how many samples there will be, for those who wait.
    """
    device, found = device_of(model), [torch.zeros(0, model.dim)]
    with frozen(model), Phase("encoding", total, "samples") as phase:
        for batch in batches:
            x = batch if isinstance(batch, Tensor) else torch.cat(batch)
            pooled = torch.cat([model(part.to(device)).pooled.float().cpu() for part in x.split(batch_size)])
            if not isinstance(batch, Tensor):
                pooled = torch.stack([each.mean(0) for each in pooled.split([len(clips) for clips in batch])])
            found.append(pooled)
            phase.advance(len(batch))
    return torch.cat(found)
