"""Signals of the process that forks a sweep's jobs. It imports this before all else, and no other process does.

What is sent to the sweep's whole process group is not for it: it lives as long as the sweep does.
"""

import os
import signal

from ssl_runner.engine.interrupt import SIGNALS

os.setpgid(0, 0)
for number in SIGNALS:
    signal.signal(number, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)  # blocked until here by the sweep
