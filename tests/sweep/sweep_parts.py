"""A part of jobs that a sweep is to survive; a config names it where SSL_RUNNER_TRUST allows it."""

import os
import signal
import time
from typing import Literal

from ssl_runner.contract import Regulariser


class Trouble(Regulariser):
    """Takes so many seconds for a step, and in its second step raises or kills its process if it `breaks`."""

    def __init__(self, *, seconds: float = 0, breaks: Literal["raise", "kill"] | None = None):
        super().__init__()
        self.seconds, self.breaks, self.calls = seconds, breaks, 0

    def forward(self, loss, pretext):
        self.calls += 1
        time.sleep(self.seconds)
        if self.calls == 2 and self.breaks == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.calls == 2 and self.breaks:
            raise RuntimeError("the second step broke")
        return {}
