"""Self-distillation between views: cross-entropy of the student's prototypes against the teacher's."""

import torch
from jaxtyping import Float
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
