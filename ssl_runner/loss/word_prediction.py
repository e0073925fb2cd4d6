"""Cross-entropy of words, a token at a time, and of yes or no; means over the real tokens of all ranks."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ssl_runner.layers.gather import gather


def word_prediction(
    logits: Float[Tensor, "b m v"], target: Int[Tensor, "b m"], counts: Bool[Tensor, "b m"]
) -> tuple[Float[Tensor, ""], Mapping[str, Tensor]]:
    """Nats a token, the mean over those that count; beside it the share of them that is told right."""
    with torch.autocast(logits.device.type, enabled=False):
        each = F.cross_entropy(logits.float().flatten(0, 1), target.flatten(), reduction="none").view(target.shape)
        value = mean_of_tokens(each, counts)
    right = mean_of_tokens((logits.argmax(2) == target).float(), counts)
    return value, {"cross_entropy": value.detach(), "masked_accuracy": right.detach()}


def mean_of_tokens(each: Float[Tensor, "b m"], counts: Bool[Tensor, "b m"]) -> Float[Tensor, ""]:
    """The mean over tokens that count on all ranks, of which each has a share: the mean over ranks is that mean."""
    of_rows = gather(counts.sum(1))  # (B * ranks,)
    ranks = len(of_rows) / len(counts)
    return (each * counts).sum() * ranks / of_rows.sum().clamp(min=1)
