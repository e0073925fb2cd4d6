"""Signals of the process that forks a sweep's jobs: it imports this first, and ignores those to the sweep's group."""

import os
import signal

from ssl_runner.engine.interrupt import SIGNALS

os.setpgid(0, 0)
for number in SIGNALS:
    signal.signal(number, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)  # blocked until here by the sweep
