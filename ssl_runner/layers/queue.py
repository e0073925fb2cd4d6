"""FIFO queue of keys: the newest rows of earlier steps, in a ring buffer."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class Queue(nn.Module):
    """Holds the newest `size` rows, brought to unit length; they are random directions until it was filled once.

    Rows and the place of the next are buffers, so a run resumes with the queue that it had. `size` need not be a
    multiple of the batch size, and may be smaller than it.
    """

    rows: Tensor  # (size, dim)
    place: Tensor  # (), int64: the oldest row, which the next one takes the place of

    def __init__(self, size: int, dim: int):
        super().__init__()
        self.register_buffer("rows", F.normalize(torch.randn(size, dim), dim=1))
        self.register_buffer("place", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def enqueue(self, rows: Float[Tensor, "b d"]) -> None:
        """Takes rows in, the last one being the newest. Call it in after_step, so that no row meets its own query."""
        size, count = len(self.rows), len(rows)
        newest = rows[-size:]
        place = torch.arange(count - len(newest), count, device=rows.device) + self.place
        self.rows.index_copy_(0, place % size, F.normalize(newest.float(), dim=1))
        self.place.add_(count).remainder_(size)
