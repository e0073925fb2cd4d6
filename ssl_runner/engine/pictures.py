"""Pictures for TensorBoard: the views that the encoder sees at a step, and what the method makes of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jaxtyping import Float
from torch import Tensor

from ssl_runner.engine.frozen import frozen

if TYPE_CHECKING:
    from ssl_runner.engine.learner import Learner


def pictures(learner: Learner, step: int) -> dict[str, Float[Tensor, "b c h w"]]:
    """Images by name: `views/0`, `views/1`, ..., `pictures/reconstruction`. It leaves the learner as it was."""
    waited, batch = learner.loader.waited, learner.loader.batches(step)[0]
    learner.loader.waited = waited
    views = learner.views(batch, step, learner.main)
    images = [v for v in views if isinstance(v, Tensor) and v.ndim == 4 and v.is_floating_point()]
    named = {f"views/{number}": image for number, image in enumerate(images)}
    with frozen(learner.pretext):
        return named | {f"pictures/{name}": image for name, image in learner.pretext.pictures(views).items()}
