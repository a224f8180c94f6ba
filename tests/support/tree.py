"""A stubborn engine: main, a child, a setsid child and a double-forked daemon, all deaf to SIGTERM.

Prints `role pid` for each, then stays. Arguments: `obey` makes the main process alone end on SIGTERM.
"""

import os
import signal
import sys


def be(role):
    os.write(1, f"{role} {os.getpid()}\n".encode())
    while True:
        signal.pause()


for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
    signal.signal(number, signal.SIG_IGN)
if os.fork() == 0:
    be("child")
if os.fork() == 0:
    os.setsid()
    be("setsid")
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        be("daemon")
    os._exit(0)
if "obey" in sys.argv:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
be("main")
