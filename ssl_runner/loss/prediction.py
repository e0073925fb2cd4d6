"""InfoNCE over time: which of many frames is the one that was predicted; means over the frames of clips of any length.

Scores are float32 also under autocast.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from ssl_runner.layers.gather import first_row, gather

Scores = tuple[Float[Tensor, "b n"], Bool[Tensor, "b n"]]  # the loss of each frame, and whether its own scored highest


def mean_of_clips(value: Float[Tensor, "b n"], counted: Bool[Tensor, "b n"]) -> Float[Tensor, ""]:
    """The mean over clips of each one's mean over what is counted, 0 for a clip without any.

    Each clip has the same weight, however long it is: then the gradient does not depend on how clips are shared out to
    processes and micro-batches.
    """
    weight = counted.to(value.dtype)
    return ((value * weight).sum(1) / weight.sum(1).clamp(min=1)).mean()


def step_ahead(
    prediction: Float[Tensor, "b n d"], z: Float[Tensor, "b n d"], real: Bool[Tensor, "b n"],
    *, others: bool = True, same: bool = True
) -> Scores:  # fmt: skip
    """Equation 4 of CPC (arXiv 1807.03748): frame i of z was predicted by frame i of `prediction`, by dot products.

    The negatives are frame i of the other clips, of all ranks (`others`), and the other frames of the clip itself
    (`same`), as far as they are real. The loss is the log of their number plus one if all frames are equal.
    """
    with torch.autocast(z.device.type, enabled=False):
        prediction, z = prediction.float(), z.float()
        b, n = real.shape
        own = torch.arange(n, device=z.device)
        logits = prediction @ z.mT  # (B, n, n) with the frames of the same clip, the positive on the diagonal
        allowed = real[:, None].expand(-1, n, -1) if same else torch.zeros_like(logits, dtype=torch.bool)
        itself = torch.eye(n, dtype=torch.bool, device=z.device)
        logits = logits.masked_fill(~(allowed | itself), -torch.inf)
        if others:
            everyone, known, first = gather(z), gather(real), first_row(z)
            across = torch.einsum("bnd,cnd->bnc", prediction, everyone)  # (B, n, B * ranks)
            clip = torch.arange(first, first + b, device=z.device)
            unlike = clip[:, None] != torch.arange(len(everyone), device=z.device)  # (B, B * ranks)
            usable = known.T & unlike[:, None]
            logits = torch.cat([logits, across.masked_fill(~usable, -torch.inf)], dim=2)
        target = own.expand(b, n)
        value = F.cross_entropy(logits.flatten(0, 1), target.flatten(), reduction="none").view(b, n)
        return value, logits.argmax(2) == target
