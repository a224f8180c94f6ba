"""A small Roundhouse to be killed: starts one engine, says its pids as JSON, relays its lines, waits for ever.

Arguments: runtime folder, log folder, install id, orphan grace, then the engine's command. With `churn` before the command
it starts and stops engines without end, to be killed at any moment.
"""

import asyncio
import json
import sys
import time
from pathlib import Path

from roundhouse.launchers.process import ProcessLauncher
from roundhouse.ports import Command, Tag


async def main(runtime, logs, install, grace, *command: str):
    async with ProcessLauncher(Path(runtime), Path(logs), install, float(grace), term_grace=0.2) as launcher:
        tag = Tag("model", "settings", 4711, time.time())
        if command[0] == "churn":
            print("{}", flush=True)
            while True:
                async with asyncio.TaskGroup() as group:
                    starts = [group.create_task(launcher.start(tag, Command(command[1:]))) for _ in range(2)]
                async with asyncio.TaskGroup() as group:
                    for start in starts:
                        group.create_task(start.result().stop(0.05))
        handle = await launcher.start(tag, Command(command))
        print(json.dumps({"pid": handle.pid, "keeper": handle.keeper}), flush=True)
        async for line in handle.lines():
            print(line, flush=True)
        await asyncio.Event().wait()


asyncio.run(main(*sys.argv[1:]))
