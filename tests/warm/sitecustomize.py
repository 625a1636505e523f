"""Makes the jobs of a launcher start in a moment: an interpreter that finds this on PYTHONPATH runs it first, see `forks.WARM`.

A job's process then leaves its work to a forked one, passes on the signals that it gets, and ends as that does; if it is killed, it is too.
"""

import os
import signal
import sys

if "submitit.core._submit" in sys.orig_argv:
    import forks

    process = forks.Started(sys.orig_argv[1:], stdout=sys.stdout, stderr=sys.stderr)
    for passed_on in (signal.SIGINT, signal.SIGTERM, signal.SIGCONT, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(passed_on, lambda sent, _: process.send_signal(sent))
    status = process.wait()
    if status < 0:
        signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    os._exit(status)
