"""Setup of multiprocessing's fork server, which imports this module first: it ignores signals that ask to end.

Ctrl-C, or a scheduler, signals every process of a run or a sweep. The one that trains still has to save, with the help
of the processes forked from here. They may read a data set of the project's own package, which is made importable. A
job of a sweep runs code that is imported here, so that the commit which it records is that of now, and not of later.
"""

import contextlib
import os
import signal

from ssl_runner.config.trust import find_own_package
from ssl_runner.engine.interrupt import SIGNALS
from ssl_runner.run_folder.source import runner_source

os.setpgid(0, 0)
for number in SIGNALS:
    signal.signal(number, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)  # blocked until here by `interrupt.start_fork_server`
with contextlib.suppress(ValueError):
    find_own_package()
runner_source()
