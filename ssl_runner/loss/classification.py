"""Classification of what was done to an image: loss and hits, a task with a linear head, checks of its augmentation."""

from collections.abc import Sequence
from typing import Literal

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from ssl_runner.augment.image.views import Views
from ssl_runner.contract import Encoder, Loss, Pretext

Score = Literal["cross_entropy", "mse"]
STILL = {"flip": 0, "vertical_flip": 0, "degrees": 0, "scale": (1, 1)}  # settings of augment that move no pixel


def score(
    logits: Float[Tensor, "b k"], target: Int[Tensor, " b"], loss: Score
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


class TransformationTask(Pretext):
    """Asks a linear head on the pooled features for the class of what was done to each image.

    A subclass makes views: the images (N, C, H, W) and their classes (N,).
    """

    def __init__(self, encoder: Encoder, augment: Views, classes: int, loss: Score):
        super().__init__()
        self.encoder = encoder
        self.augment = augment
        self.loss = loss
        self.head = nn.Linear(encoder.dim, classes)

    def forward(self, views: tuple[Float[Tensor, "n c h w"], Int[Tensor, " n"]], group: str = "main") -> Loss:
        x, label = views
        pooled = self.encoder(x).pooled
        value, hits = score(self.head(pooled), label, self.loss)
        return Loss(value, {"accuracy": hits.mean()}, pooled)


def check_still(augment: Views, effect: str, keys: Sequence[str] = tuple(STILL)) -> None:
    """Raises ValueError if augment moves pixels by one of the settings `keys`; `effect` says what that does."""
    for key in keys:
        if getattr(augment, key) != STILL[key]:
            still = "[1,1]" if key == "scale" else 0
            raise ValueError(f"augment.{key}={getattr(augment, key)} {effect}; type pretext.augment.{key}={still}")


def check_degrees(augment: Views, limit: int) -> None:
    """Raises ValueError if augment tilts images so far that one class looks like another."""
    if augment.degrees >= limit:
        remedy = f"type pretext.augment.degrees=N below {limit}"
        raise ValueError(f"augment.degrees={augment.degrees} mixes the classes; {remedy}")


def check_square(shape: Sequence[int], augment: Views, otherwise: str = "") -> None:
    """Raises ValueError if right angles would change the shape (C, H, W) of views; `otherwise` is a further remedy."""
    if shape[-1] != shape[-2] and augment.size is None:
        raise ValueError(
            f"rotation by right angles needs square images, these are {shape[-2]} x {shape[-1]} pixels; "
            f"type pretext.augment.size={min(shape[-2:])}{otherwise}"
        )
