"""Exit codes that scripts can use (spec H)."""

DONE = 0
FAILED = 1
USAGE = 2
NOT_RUNNING = 3
REFUSED = 4
