"""Signals and imports of a server that processes are forked from: it imports this first.

It ignores signals to its parent's group.

A process that trains, or a sweep, is asked to end by Ctrl-C or by a scheduler that signals all processes; what it needs
to save first must not end before it. A data set of the project's own package is read in processes of it, too.
"""

import contextlib
import os
import signal

from ssl_runner.config.trust import find_own_package
from ssl_runner.engine.interrupt import SIGNALS

os.setpgid(0, 0)
for number in SIGNALS:
    signal.signal(number, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)  # blocked until here by `interrupt.start_fork_server`
with contextlib.suppress(ValueError):
    find_own_package()
