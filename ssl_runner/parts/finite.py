"""Features that are no numbers are refused before anything is fitted to them."""

from jaxtyping import Float
from torch import Tensor


def require_finite(*features: Float[Tensor, "..."]) -> None:
    """Raises FloatingPointError where a feature is infinite or not a number."""
    if not all(bool(each.isfinite().all()) for each in features):
        raise FloatingPointError("the features are not all finite: the encoder has diverged; lower optimizer.lr")
