"""Ranks of a distributed job: which process this is, of how many. With one process each function is the identity."""

from torch import Tensor

from ssl_runner.layers.gather import rank_and_count


def rank() -> int:
    """The number of this process, from 0."""
    return rank_and_count()[0]


def rows_of_rank(index: Tensor) -> Tensor:
    """The share of a step's rows that is this rank's: (B,) to (B / count,), consecutive. Raises ValueError."""
    number, processes = rank_and_count()
    if len(index) % processes:
        raise ValueError(f"batch_size={len(index)} does not divide among {processes} processes")
    return index.chunk(processes)[number] if processes > 1 else index
