"""Plugins of the whole suite."""

import signal

pytest_plugins = ["tests.support.lab"]

# A shell that starts us in the background has Ctrl-C ignored, and programs that we start inherit that: tests press it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
