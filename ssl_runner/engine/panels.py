"""Panels of a step for TensorBoard: grids of views, clips with their spectrograms, a table of texts."""

from collections.abc import Callable, Iterable, Mapping
from itertools import groupby
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from ssl_runner.contract import Kind

Decode = Callable[[Iterable[int]], str]  # of ids

ROWS = 8  # of a table
HIDDEN = -1  # stands for an id that the task has masked
GAP = "\u2581\u2581"  # what a table shows for it
MARKS = "&\\`*_[]<>|#"  # characters that mean something in Markdown or HTML
WINDOW, HOP = 0.025, 0.01  # seconds, of a spectrogram
RANGE = 8.0  # nepers of power below the loudest that are told apart


class Panels(NamedTuple):
    images: Mapping[str, Float[Tensor, "b c h w"]]  # in [0, 1], by name: `views/0`, `pictures/reconstruction`
    sounds: Mapping[str, Float[Tensor, "b 1 t"]]
    texts: Mapping[str, Tensor]  # int64 (b, l) ids, with HIDDEN among them, by the head of their column


def panels(kind: Kind, x: Tensor, views: tuple, made: Mapping[str, Tensor]) -> Panels:
    """A batch's samples, its views, and the method's own pictures of them, in a form that can be shown.

    A table of texts has as columns the original, what the task sees (its first view of ids, with a gap for each id that
    a view of booleans of the same shape marks as masked), and what the method's own pictures fill in.
    """
    tensors = [view for view in views if isinstance(view, Tensor)]
    floats = [view for view in tensors if view.is_floating_point()]
    images = {f"views/{number}": view for number, view in enumerate(view for view in floats if view.ndim == 4)}
    if kind == "audio":  # spectrograms, of whatever range
        images = {name: spread(view) for name, view in images.items()}
    images |= {f"pictures/{name}": each for name, each in made.items() if each.ndim == 4}
    sounds, texts = dict[str, Tensor](), dict[str, Tensor]()
    if kind == "audio":
        clips = [view for view in floats if view.ndim == 3 and view.shape[1] == 1]
        sounds = {"sounds/original": x, **{f"sounds/{number}": clip for number, clip in enumerate(clips)}}
    seen = next((view for view in tensors if is_text(view)), None)
    if kind == "text" and seen is not None:
        hidden = next((view for view in tensors if view.dtype == torch.bool and view.shape == seen.shape), None)
        seen = seen if hidden is None else seen.masked_fill(hidden, HIDDEN)
        texts = {"original": x, "seen": seen, **{name: each for name, each in made.items() if is_text(each)}}
    return Panels(images, sounds, texts)


def is_text(view: object) -> bool:
    return isinstance(view, Tensor) and view.ndim == 2 and view.dtype == torch.int64


def spread(x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Values over [0, 1], whatever their range."""
    low, high = x.aminmax()
    return (x - low) / (high - low).clamp(min=1e-8)


def spectrogram(x: Float[Tensor, "b 1 t"], rate: int) -> Float[Tensor, "b 1 f n"]:
    """Log power in [0, 1], each clip against its loudest, low pitches at the bottom."""
    window = max(2, round(WINDOW * rate))
    x = torch.nn.functional.pad(x.float(), (0, max(0, window - x.shape[2])))
    frames = x[:, 0].unfold(1, window, max(1, round(HOP * rate))) * torch.hann_window(window, device=x.device)
    power = (torch.fft.rfft(frames).abs().square() + 1e-10).log().transpose(1, 2).flip(1)  # (B, f, n)
    return (1 + (power - power.amax((1, 2), keepdim=True)) / RANGE).clamp(0, 1)[:, None]


def table(texts: Mapping[str, Tensor], decode: Decode | None = None) -> str:
    """Texts side by side, in Markdown; without `decode` an id is its number."""
    heads = list(texts)
    rows = zip(*(each[:ROWS].tolist() for each in texts.values()), strict=True)
    lines = [heads, ["---"] * len(heads), *([written(ids, decode) for ids in row] for row in rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def written(ids: Iterable[int], decode: Decode | None) -> str:
    """A text without its padding, with a gap for each hidden token; what Markdown or HTML would read is escaped."""
    parts: list[str] = []
    for hidden, run in groupby((each for each in ids if each), lambda each: each == HIDDEN):
        known = list(run)
        if hidden:
            parts += [GAP] * len(known)
        else:
            parts.append(" ".join(map(str, known)) if decode is None else decode(known))
    text = " ".join(" ".join(parts).split())
    return "".join(f"&#{ord(sign)};" if sign in MARKS else sign for sign in text)
