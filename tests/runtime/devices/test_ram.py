from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile

from roundhouse.runtime.devices.ram import RamReader, pressure, unmapped
from tests.runtime.devices.machine import GIB, MIB, PAGE


async def test_ram_is_what_the_kernel_could_give(machine):
    reading = await machine.ram().read({})
    assert reading.total == {"ram": 16 * GIB}
    assert reading.used == {"ram": 4 * GIB}


async def test_d1_ram_of_an_instance_is_the_share_of_its_whole_tree(machine):
    machine.process(10, 1, "keeper", 100 * MIB, pss=20 * MIB)
    machine.process(11, 10, "llama-server", 900 * MIB, pss=800 * MIB)
    machine.process(12, 11, "worker", 300 * MIB)  # not ours to look into: its RSS
    machine.process(13, 1, "other", 500 * MIB, pss=500 * MIB)
    reading = await machine.ram().read({7: 10, 8: 999})
    assert reading.ours == {7: {"ram": 1120 * MIB}, 8: {"ram": 0}}


async def test_d1_weights_that_an_engine_maps_are_used_so_that_others_are_not_underrated(machine):
    """2 GiB of anonymous memory are in the kernel's 4 GiB already, 6 GiB of mapped weights are not."""
    machine.process(10, 1, "llama-server", 9 * GIB, pss=8 * GIB, file=6 * GIB)
    reading = await machine.ram().read({1: 10})
    assert reading.used["ram"] - reading.ours[1]["ram"] == 2 * GIB


async def test_d1_so_are_those_of_an_engine_that_may_not_be_looked_into(machine):
    """Another user's unit: its resident pages count, of which those of files are not in the kernel's 4 GiB."""
    machine.process(10, 1, "llama-server", 8 * GIB, file=6 * GIB)
    reading = await machine.ram().read({1: 10})
    assert reading.ours == {1: {"ram": 8 * GIB}}
    assert reading.used["ram"] - reading.ours[1]["ram"] == 2 * GIB


async def test_d1_weights_that_two_engines_map_count_once():
    """Two processes that have the same 64 MiB of a file in memory hold 64 MiB together."""
    mapper = (
        "import mmap, sys; file = open(sys.argv[1], 'rb'); found = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ); "
        "sum(found[::4096]); print('ready', flush=True); sys.stdin.read()"
    )
    with tempfile.NamedTemporaryFile() as weights:
        weights.write(bytes(64 * MIB))
        weights.flush()
        words = [sys.executable, "-c", mapper, weights.name]
        alone = (await _held(words))[0]
        one, other = await _held(words, words)
    assert alone > 64 * MIB
    assert one + other < alone + 48 * MIB


async def _held(*commands):
    """What each of these processes holds while all of them live."""
    processes = [subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for words in commands]
    try:
        for process in processes:
            assert process.stdout is not None
            assert await asyncio.to_thread(process.stdout.readline) == b"ready\n"
        reading = await RamReader().read({n: process.pid for n, process in enumerate(processes)})
    finally:
        for process in processes:
            process.communicate()
    return [reading.ours[n]["ram"] for n in range(len(processes))]


async def test_d2_holders_are_the_three_largest_foreign_processes(machine):
    machine.process(10, 1, "llama-server", 9 * GIB, pss=9 * GIB)
    for pid, name, size in (
        (20, "small", MIB),
        (21, "Web (Content) 1", 3 * GIB),
        (22, "java", 2 * GIB),
        (23, "db", 2 * GIB - 7 * PAGE),
    ):
        machine.process(pid, 1, name, size)
    machine.process(os.getpid(), 1, "roundhouse", 5 * GIB)
    reading = await machine.ram().read({1: 10})
    assert reading.holders["ram"] == (
        "Web (Content) 1 (pid 21, 3.0 GiB)",
        "java (pid 22, 2.0 GiB)",
        "db (pid 23, 2.0 GiB)",
    )


async def test_process_that_ends_during_the_reading_is_left_out(machine):
    (machine.proc / "30").mkdir()
    assert (await machine.ram().read({1: 30})).ours == {1: {"ram": 0}}


async def test_limit_of_a_group_above_ours_counts_version_2(machine):
    machine.write(machine.proc / "self/cgroup", "0::/box/inner\n")
    machine.write(machine.cgroups / "box/memory.max", f"{8 * GIB}\n")
    machine.write(machine.cgroups / "box/memory.current", f"{5 * GIB}\n")
    machine.write(machine.cgroups / "box/memory.stat", f"anon {GIB}\nfile {4 * GIB}\nshmem {GIB}\n")
    machine.write(machine.cgroups / "box/inner/memory.max", "max\n")
    machine.write(machine.cgroups / "box/inner/memory.current", "1\n")
    machine.write(machine.cgroups / "box/inner/memory.stat", "file 0\n")
    reading = await machine.ram().read({})
    assert reading.total == {"ram": 8 * GIB}
    assert reading.used == {"ram": 2 * GIB}


async def test_limit_of_our_group_counts_version_1(machine):
    machine.write(machine.proc / "self/cgroup", "5:cpu,cpuacct:/x\n4:memory:/docker/abc\n0::/\n")
    folder = machine.cgroups / "memory/docker/abc"
    machine.write(folder / "memory.limit_in_bytes", f"{2 * GIB}\n")
    machine.write(folder / "memory.usage_in_bytes", f"{GIB}\n")
    machine.write(folder / "memory.stat", f"cache 5\ntotal_cache {GIB // 2}\ntotal_shmem 0\n")
    reading = await machine.ram().read({})
    assert reading.total == {"ram": 2 * GIB}
    assert reading.used == {"ram": GIB // 2}


async def test_limit_larger_than_the_machine_is_none(machine):
    machine.write(machine.proc / "self/cgroup", "4:memory:/\n")
    folder = machine.cgroups / "memory"
    machine.write(folder / "memory.limit_in_bytes", "9223372036854771712\n")
    machine.write(folder / "memory.usage_in_bytes", f"{15 * GIB}\n")
    machine.write(folder / "memory.stat", "total_cache 0\n")
    assert (await machine.ram().read({})).used == {"ram": 4 * GIB}


async def test_machine_that_has_less_than_the_limit_leaves(machine):
    """12 GiB are available, of which the group may take 15: the machine decides."""
    machine.write(machine.proc / "self/cgroup", "0::/box\n")
    machine.write(machine.cgroups / "box/memory.max", f"{15 * GIB}\n")
    machine.write(machine.cgroups / "box/memory.current", "0\n")
    machine.write(machine.cgroups / "box/memory.stat", "file 0\n")
    reading = await machine.ram().read({})
    assert reading.total["ram"] - reading.used["ram"] == 12 * GIB


async def test_real_machine_and_a_real_tree():
    """A child of a child that holds 64 MiB."""
    holder = "x = bytearray(b'x') * (64 << 20); print('ready', flush=True); import sys; sys.stdin.read()"
    starter = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {holder!r}])"
    with subprocess.Popen([sys.executable, "-c", starter], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as root:
        assert root.stdout is not None
        assert root.stdin is not None
        assert await asyncio.to_thread(root.stdout.readline) == b"ready\n"
        reading = await RamReader().read({1: root.pid})
        root.stdin.close()
        root.wait(10)
    assert reading.ours[1]["ram"] > 64 * MIB
    assert 0 < reading.used["ram"] < reading.total["ram"]


def test_files_that_programs_map_are_no_room_for_others(machine):
    text = (machine.proc / "meminfo").read_text()
    machine.write(machine.proc / "meminfo", f"{text}Mapped: {5 * MIB} kB\n")
    assert unmapped(machine.proc, machine.cgroups) == 7 * GIB
    group = machine.cgroups / "ours"
    machine.write(machine.proc / "self/cgroup", "0::/ours\n")
    machine.write(group / "memory.max", f"{8 * GIB}\n")
    machine.write(group / "memory.current", f"{5 * GIB}\n")
    machine.write(group / "memory.stat", f"anon 1\nfile {4 * GIB}\nshmem 0\nfile_mapped {2 * GIB}\n")
    assert unmapped(machine.proc, machine.cgroups) == 5 * GIB


def test_pressure_is_the_share_of_the_last_ten_seconds(machine):
    assert pressure(machine.proc) == 0.0
    line = "avg10=12.50 avg60=3.00 avg300=0.00 total=1"
    machine.write(machine.proc / "pressure/memory", f"some {line}\nfull {line.replace('12.50', '1.00')}\n")
    assert pressure(machine.proc) == 12.5
