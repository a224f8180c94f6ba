"""Plugins of the whole suite."""

import os
import signal

from hypothesis import settings

pytest_plugins = ["tests.support.lab"]

# No test asserts a timing: an example may take its time on a busy machine. The default suite is the same at every run, so
# that a change is judged by what it changes; `make soak` looks for what is new.
SOAKS = os.environ.get("HYPOTHESIS_PROFILE") == "soak"
settings.register_profile("roundhouse", deadline=None, derandomize=not SOAKS, database=None)
settings.load_profile("roundhouse")

# A shell that starts us in the background has Ctrl-C ignored, and programs that we start inherit that: tests press it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
