"""Spans of frames that a masked task hides, and other hidden frames to tell one from; each clip by its own draw."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ssl_runner.contract import Rng


def hidden_spans(real: Bool[Tensor, "b n"], share: float, span: int, rng: Rng) -> Bool[Tensor, "b n"]:
    """Which real frames are hidden: spans of `span` frames, as wav2vec 2.0's (arXiv 2006.11477, section 3.1).

    Where they begin is drawn without replacement, and they may overlap. There are as many as would hide `share` of a
    clip's frames if none overlapped, one at least; a clip that they would cover shows its first frame.
    """
    b, n = real.shape
    length = real.sum(1, keepdim=True)  # (B, 1)
    place = torch.arange(n, device=real.device)
    begins = place <= (length - span).clamp(min=0)  # a span ends within the clip if it can
    u = rng.rand(b, n).masked_fill(~begins, 2.0)
    rank = u.argsort(dim=1).argsort(dim=1)
    count = (share * length / span).round().clamp(min=1)
    first = (rank < count) & begins
    reach = F.max_pool1d(F.pad(first[:, None].to(torch.float32), (span - 1, 0)), span, 1)[:, 0]  # begun lately
    hidden = (reach > 0) & real
    covered = (hidden == real).all(1, keepdim=True)
    return hidden & ~(covered & (place == 0))


def other_hidden(hidden: Bool[Tensor, "b n"], count: int, rng: Rng) -> Int[Tensor, "b n k"]:
    """For each hidden frame `count` others that are hidden in the same clip, drawn with replacement, never itself.

    The frame itself, if its clip hides no other, and whatever for frames that are shown.
    """
    b, n = hidden.shape
    order = (~hidden).to(torch.int8).argsort(dim=1, stable=True)  # hidden frames first, in order of time
    total = hidden.sum(1)[:, None, None]
    own = (hidden.cumsum(1) - 1).clamp(min=0)[..., None]  # which of the hidden frames it is
    u: Float[Tensor, "b n k"] = rng.rand(b, n, count)
    other = (u * (total - 1).clamp(min=0)).long()
    other = (other + (other >= own)).clamp(max=n - 1).minimum((total - 1).clamp(min=0))
    return order.gather(1, other.flatten(1)).view_as(other)
