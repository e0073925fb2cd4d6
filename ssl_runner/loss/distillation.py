"""Self-distillation between views and of hidden tokens: the student's prototypes against the teacher's."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor


def view_cross_entropy(
    teacher: Float[Tensor, "t b k"], student: Float[Tensor, "v b k"], temperature: float
) -> Float[Tensor, ""]:
    """Equation 3 of DINO (arXiv 2104.14294): the mean of -sum P_t log P_s over samples and pairs of different views.

    teacher: probabilities of t views. student: logits of v views, of which the first t are the teacher's, in its order.
    Raises ValueError if no pair of different views is there.
    """
    views, samples = len(student), student.shape[1]
    if views < 2:
        raise ValueError(f"self-distillation needs two views or more, given {views}")
    with torch.autocast(student.device.type, enabled=False):
        log_p = (student.float() / temperature).log_softmax(dim=2)
        pairs = -teacher.float().flatten(1) @ log_p.flatten(1).T / samples  # (t, v), a cross-entropy each
        return pairs.sum().sub(pairs.diagonal().sum()) / (len(teacher) * (views - 1))


def token_cross_entropy(
    teacher: Float[Tensor, "b m k"], student: Float[Tensor, "b m k"], hidden: Bool[Tensor, "b m"], temperature: float
) -> Float[Tensor, ""]:
    """iBOT's loss of hidden tokens (arXiv 2111.07832): -sum P_t log P_s, mean over those of an image, then images.

    An image that hides none has a loss of 0. teacher: probabilities. student: logits.
    """
    with torch.autocast(student.device.type, enabled=False):
        log_p = (student.float() / temperature).log_softmax(dim=2)
        each = -(teacher.float() * log_p).sum(dim=2) * hidden  # (b, m)
        return (each.sum(dim=1) / hidden.sum(dim=1).clamp(min=1)).mean()


def similarity_error(tokens: Float[Tensor, "b n d"], anchor: Float[Tensor, "b n d"]) -> Float[Tensor, ""]:
    """Gram anchoring of DINOv3 (arXiv 2508.10104): the mean squared error of the cosines of all pairs of tokens."""
    with torch.autocast(tokens.device.type, enabled=False):
        ours, theirs = (F.normalize(each.float(), dim=2) for each in (tokens, anchor))
        return (ours @ ours.transpose(1, 2) - theirs @ theirs.transpose(1, 2)).square().mean()
