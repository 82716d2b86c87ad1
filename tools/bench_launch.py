"""Run a command, and print as JSON what it took: seconds, processor seconds, peak memory in KiB, exit code.

A child begins with its parent's peak as its own (exec keeps it, getrusage(2)). So the benchmark, which is large, has
this small program start what it measures.
"""

import json
import os
import sys
import time

nothing = os.open(os.devnull, os.O_WRONLY)
begun = time.monotonic()
child = os.fork()
if not child:
    os.dup2(nothing, 1)
    os.dup2(nothing, 2)
    try:
        os.execvp(sys.argv[1], sys.argv[1:])
    finally:
        os._exit(127)
_, status, usage = os.wait4(child, 0)
seconds = time.monotonic() - begun
print(json.dumps([seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss, os.waitstatus_to_exitcode(status)]))
