"""Agreement of ranks on what some of them were asked: known to all at the same step, without waiting for it."""

from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from ssl_runner.device import ranks


class Agreement:
    """The largest number that any rank has given, one call later; with one process, the number itself.

    Each call starts a reduction of one number on the hosts, and takes the result of the one before, which a step has
    had time to finish. So it also is what a rank waits in if another has stopped to take part. Its group is the hosts'
    own: `timeout` seconds are over before those of a collective on GPUs, whose end no exception can tell.
    """

    def __init__(self, timeout: float):
        self._group: Any = None
        if ranks.count() > 1:
            self._group = dist.new_group(backend="gloo", timeout=timedelta(seconds=timeout))
        self._pending: tuple[Any, torch.Tensor] | None = None

    def largest(self, number: int) -> int:
        """`number`: at least 0, which is that of a rank that was asked nothing. Every rank calls it at each step."""
        if self._group is None:
            return number
        before, mine = self._pending, torch.tensor(number)
        if before is not None:
            before[0].wait()
        self._pending = (dist.all_reduce(mine, dist.ReduceOp.MAX, self._group, async_op=True), mine)
        return int(before[1]) if before is not None else 0
