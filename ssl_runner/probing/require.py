"""Requirements of a protocol: labelled samples, enough neighbours, images, finite features. Each raises if unmet."""

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor

from ssl_runner.contract import Samples, Split
from ssl_runner.probing.targets import read_target


def require_labelled(who: str, target: str | None = None, **splits: Split) -> None:
    """Raises ValueError if a split, named by its keyword, holds no row with the target; None is the class."""
    for name, split in splits.items():
        try:
            held = len(read_target(split, target))
        except ValueError as error:
            raise ValueError(f"{error}, or leave {who} out") from None
        if held == 0:
            raise ValueError(f"the {name} holds no labelled sample; give it some or leave {who} out")


def require_neighbours(k: int, bank: Split, protocol: str) -> None:
    """Raises ValueError if a bank has fewer than k samples to vote."""
    if k > len(bank.x):
        raise ValueError(f"k is {k} and the bank holds {len(bank.x)} samples; use evaluator.{protocol}.k={len(bank.x)}")


def require_images(protocol: str, sample: Samples) -> None:
    """Raises ValueError for text and audio, and for images that are neither grey nor coloured."""
    if sample.kind != "image" or sample.shape[0] not in (1, 3):
        had = f"images of {sample.shape[0]} channels" if sample.kind == "image" else sample.kind
        raise ValueError(f"{protocol} takes images of 1 or 3 channels, and the dataset has {had}; leave {protocol} out")


def require_augmentable(protocol: str, augment: Callable | None, sample: Samples) -> None:
    """Raises ValueError if views of images are wanted of something else."""
    if augment is not None and sample.kind != "image":
        off = f"evaluator.{protocol}.augment=null"
        raise ValueError(f"augment makes views of images, and the dataset has {sample.kind}; type {off}")


def require_finite(*features: Float[Tensor, "..."]) -> None:
    """Raises FloatingPointError if a feature is infinite or not a number."""
    if not all(bool(each.isfinite().all()) for each in features):
        raise FloatingPointError("the features are not all finite: the encoder has diverged; lower optimizer.lr")
