"""Parts of jobs that a sweep is to survive; a config names them where SSL_RUNNER_TRUST allows it."""

import os
import signal
import time
from collections.abc import Mapping

from torch import Tensor

from ssl_runner.contract import Loss, Pretext, Regulariser


class Slow(Regulariser):
    """Takes as long for a step as is said."""

    def __init__(self, *, seconds: float):
        super().__init__()
        self.seconds = seconds
        self.calls = 0

    def forward(self, loss: Loss, pretext: Pretext) -> Mapping[str, Tensor]:
        self.calls += 1
        time.sleep(self.seconds)
        return {}


class Breaks(Regulariser):
    """Raises in its second step, or kills its process."""

    def __init__(self, *, kill: bool = False):
        super().__init__()
        self.kill = kill
        self.calls = 0

    def forward(self, loss: Loss, pretext: Pretext) -> Mapping[str, Tensor]:
        self.calls += 1
        if self.calls == 2:
            if self.kill:
                os.kill(os.getpid(), signal.SIGKILL)
            raise RuntimeError("the second step broke")
        return {}
