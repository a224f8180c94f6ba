"""Plugins of the whole suite."""

import signal

from hypothesis import settings

pytest_plugins = ["tests.support.lab"]

# No test asserts a timing: an example may take its time on a busy machine.
settings.register_profile("roundhouse", deadline=None)
settings.load_profile("roundhouse")

# A shell that starts us in the background has Ctrl-C ignored, and programs that we start inherit that: tests press it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
