"""An engine for units: says what it is, optionally leaves a daemon behind, ignores SIGTERM, or ends as told.

    unit_engine.py [stubborn] [daemon] [die=CODE] [kill] [bar] [print=TEXT ...] [env=NAME ...]

Its lines: `main PID`, `daemon PID`, what `print` and `env` ask for, `ready`; on SIGTERM `bye`.
"""

import os
import signal
import sys
import time

words = sys.argv[1:]


def say(text: str) -> None:
    os.write(1, text.encode() + b"\n")


def daemon() -> None:
    """Forked twice, in a session of its own, deaf to SIGTERM: what a unit's cgroup still holds."""
    reading, writing = os.pipe()
    if os.fork() == 0:
        os.setsid()
        if os.fork():
            os._exit(0)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        say(f"daemon {os.getpid()}")
        os.write(writing, b"x")
        while True:
            time.sleep(100)
    os.wait()
    os.read(reading, 1)


def bye(*_: object) -> None:
    say("bye")
    os._exit(0)


signal.signal(signal.SIGTERM, signal.SIG_IGN if "stubborn" in words else bye)
say(f"main {os.getpid()} in {os.getcwd()}")
for word in words:
    verb, _, rest = word.partition("=")
    if verb == "daemon":
        daemon()
    elif verb == "print":
        say(rest)
    elif verb == "env":
        say(f"{rest}={os.environ.get(rest)}")
    elif verb == "bar":  # a progress bar: no line feed ever
        os.write(1, b"0%\r50%\r100%\r")
    elif verb == "die":
        sys.exit(int(rest))
    elif verb == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
say("ready")
while True:
    time.sleep(100)
