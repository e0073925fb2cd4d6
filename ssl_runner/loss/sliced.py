"""Sliced tests of normality: an embedding, projected onto random directions, against the standard normal distribution.

A distribution whose projection onto every direction is standard normal is an isotropic Gaussian (Cramér and Wold).
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ssl_runner.contract import Rng

KNOTS, LAST = 17, 3.0  # of the integral over t: how many, and where it ends


class Directions(nn.Module):
    """Random unit directions, uniform on the sphere. `draw` takes others: in before_step, the same for all rows."""

    rows: Tensor  # (count, dim)

    def __init__(self, count: int, dim: int):
        super().__init__()
        self.register_buffer("rows", F.normalize(torch.randn(count, dim), dim=1), persistent=False)

    def draw(self, rng: Rng) -> None:
        self.rows.copy_(F.normalize(rng.randn(*self.rows.shape), dim=1))

    def forward(self, z: Float[Tensor, "v n d"]) -> Float[Tensor, "v n m"]:
        """The coordinate of each row along each direction, in float32 also under autocast."""
        with torch.autocast(z.device.type, enabled=False):
            return z.float() @ self.rows.T


def epps_pulley(x: Float[Tensor, "v n m"]) -> Float[Tensor, "v m"]:
    """n times the squared distance between the characteristic functions of n numbers and of the standard normal.

    The integral over t in [-3, 3], weighted by exp(-t^2 / 2), by the trapezoidal rule on [0, 3], as it is even in t. It
    is 0.402 n if all are 0, and 1.08 on average for standard normal numbers, whatever n.
    T. W. Epps, L. B. Pulley, "A test for normality based on the empirical characteristic function", Biometrika 1983.
    """
    t = torch.linspace(0, LAST, KNOTS, dtype=x.dtype, device=x.device)
    normal, angle = (-t.square() / 2).exp(), x[..., None] * t  # (k), (v, n, m, k)
    distance = (angle.cos().mean(dim=1) - normal).square() + angle.sin().mean(dim=1).square()  # (v, m, k)
    return 2 * x.shape[1] * torch.trapezoid(distance * normal, t)


def wasserstein(x: Float[Tensor, "v n m"]) -> Float[Tensor, "v m"]:
    """The squared 2-Wasserstein distance of n numbers from the n quantiles i / (n + 1) of the standard normal."""
    n = x.shape[1]
    quantiles = torch.special.ndtri(torch.arange(1, n + 1, dtype=x.dtype, device=x.device) / (n + 1))
    return (x.sort(dim=1).values - quantiles[:, None]).square().mean(dim=1)
