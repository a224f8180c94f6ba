"""The `roundhouse` command: one file per command group; they print and choose exit codes, nothing more.

Exit codes (spec H): 0 done, 1 failed, 2 usage or configuration, 3 not running, 4 refused.
"""

from __future__ import annotations

from roundhouse.cli.root import main

__all__ = ["main"]
