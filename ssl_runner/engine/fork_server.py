"""Signals of a server that processes are forked from: it imports this first, and ignores those to its parent's group.

A process that trains, or a sweep, is asked to end by Ctrl-C or by a scheduler that signals all processes; what it needs
to save first must not end before it.
"""

import os
import signal

from ssl_runner.engine.interrupt import SIGNALS

os.setpgid(0, 0)
for number in SIGNALS:
    signal.signal(number, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)  # blocked until here by `interrupt.start_fork_server`
