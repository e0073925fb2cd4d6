"""Classification loss and hits, for the tasks that name the transformation of an image."""

from typing import Literal

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor


def score(
    logits: Float[Tensor, "b k"], target: Int[Tensor, " b"], loss: Literal["cross_entropy", "mse"]
) -> tuple[Float[Tensor, ""], Float[Tensor, " b"]]:
    """The mean loss; and for each sample 1 if the guess is right, else 0 (detached).

    `mse` is the squared error of the logits themselves against one-hot targets, mean over classes: L. Hui, M. Belkin,
    "Evaluation of Neural Architectures Trained with Square Loss vs Cross-Entropy in Classification Tasks", ICLR 2021,
    arXiv 2006.07322.
    """
    logits = logits.float()
    hits = (logits.detach().argmax(1) == target).float()
    if loss == "mse":
        return F.mse_loss(logits, F.one_hot(target, logits.shape[1]).float()), hits
    return F.cross_entropy(logits, target), hits
