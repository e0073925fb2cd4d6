"""Imported by the process that forks a sweep's jobs, and by no other, before all else that it imports.

What is sent to the sweep's whole process group is not for this process: it lives as long as the sweep does.
"""

import os
import signal

from ssl_runner.engine.interrupt import SIGNALS

os.setpgid(0, 0)
for number in SIGNALS:
    signal.signal(number, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)  # blocked until here by the sweep
