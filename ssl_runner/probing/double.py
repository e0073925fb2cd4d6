"""Double precision for features of any device."""

from jaxtyping import Float
from torch import Tensor


def to_float64(x: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
    """Features in float64, on the CPU if their device has none."""
    return (x.cpu() if x.device.type == "mps" else x).double()
