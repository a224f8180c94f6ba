"""The engines' programs: found and working, which version; and whether their GPU code is for the GPUs of this machine.

The latter was built and tested against stand-ins of nvidia-smi, cuobjdump and PyTorch: no GPU was at hand.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

from roundhouse.app import programs, specs
from roundhouse.app.doctor import cuda, gpus
from roundhouse.app.doctor.finding import error, note, ok, warning
from roundhouse.errors import LoadFailed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from roundhouse.app.doctor.finding import Finding
    from roundhouse.app.doctor.gpus import Gpu
    from roundhouse.app.doctor.visit import Visit
    from roundhouse.config.models import ModelConfig
    from roundhouse.ports import Build

TORCH_LIMIT = 60.0
"""Seconds that importing PyTorch may take (a cold disk)."""
TORCH = "import torch; print(torch.__version__, torch.version.cuda, *torch.cuda.get_arch_list())"
BUILDING = "build it for this GPU: cmake -B build -DGGML_CUDA=ON -DCMAKE_CUDA_ARCHITECTURES={arch}"


def check(visit: Visit) -> Iterator[Finding]:
    """Each engine that is ours to start: not behind a URL, and not in a start script of the user's."""
    found = gpus.find(visit)
    seen: set[tuple[str, ...]] = set()
    for model in visit.engines:
        if model.url or model.command or model.script or model.launcher == "attached":
            continue
        place = (model.engine or "", str(model.tabby.dir) if model.tabby else "")
        if place not in seen:
            seen.add(place)
            yield from _engine(visit, model, found)


def _engine(visit: Visit, model: ModelConfig, found: list[Gpu]) -> Iterator[Finding]:
    engine = specs.engine_of(model)
    cache = visit.config.state_dir / "engines.json" if visit.config.state_dir.is_dir() else None
    try:
        build = asyncio.run(programs.build_of(visit.config, model, engine, cache))
    except LoadFailed as problem:
        yield error(engine.name, f"{problem.message}", f"`engines.{engine.name}` says where it is")
        return
    if not build.argv:
        return
    version = build.version or "version unknown"
    flags = f"{len(build.flags)} flags known" if build.flags else "its flags could not be read, so all are given"
    yield ok(engine.name, f"{build.argv[0]}: {version}; {flags}.")
    if found:
        yield from _architectures(
            visit, engine.name, build, found, python=engine.module is not None or bool(model.tabby)
        )


def _architectures(visit: Visit, engine: str, build: Build, found: list[Gpu], *, python: bool) -> Iterator[Finding]:
    told = _torch_archs(visit, build) if python else _binary_archs(visit, Path(build.argv[0]))
    if isinstance(told, str):
        yield note(engine, told)
        return
    for gpu in found:
        yield _judged(engine, gpu, told, python=python)


def _judged(engine: str, gpu: Gpu, archs: frozenset[str], *, python: bool) -> Finding:
    shown, wanted = ", ".join(sorted(archs)), cuda.name_of(gpu.capability)
    number = wanted.removeprefix("sm_")
    remedy = "install a PyTorch for this GPU's CUDA version" if python else BUILDING.format(arch=number)
    if cuda.runs_as_built(archs, gpu.capability):
        return ok(engine, f"Its GPU code ({shown}) is for {gpu.id} ({gpu.name}, {wanted}).")
    if cuda.runs(archs, gpu.capability):
        return warning(
            engine,
            f"Its GPU code ({shown}) is not for {gpu.id} ({gpu.name}, {wanted}): it is compiled anew at the first "
            "load, which takes minutes.",
            remedy,
        )
    return error(
        engine,
        f"Its GPU code ({shown}) does not run on {gpu.id} ({gpu.name}, {wanted}): no kernel image is available.",
        remedy,
    )


def _torch_archs(visit: Visit, build: Build) -> frozenset[str] | str:
    ran = visit.run([build.argv[0], "-c", TORCH], TORCH_LIMIT)
    if ran.code != 0:
        return f"Which GPUs its PyTorch is for can't be told: {ran.said}"
    archs = cuda.archs_in(ran.text)
    return archs or "Its PyTorch was built without CUDA, so it runs on the processor."


def _binary_archs(visit: Visit, program: Path) -> frozenset[str] | str:
    """By NVIDIA's cuobjdump, which comes with the CUDA toolkit that a build needs."""
    tool = visit.program("cuobjdump")
    if tool is None:
        return "Which GPUs it was built for can't be told without cuobjdump (of the CUDA toolkit) on PATH."
    archs: frozenset[str] = frozenset()
    for file in (program, *_libraries(program)):
        ran = visit.run([tool, "--list-elf", "--list-ptx", str(file)])
        if ran.code == 0:
            archs |= cuda.archs_in(ran.text)
    return archs or "No GPU code was found in it or in the libraries beside it: it runs on the processor."


def _libraries(program: Path) -> list[Path]:
    """Where llama.cpp's GPU code is when it was built with shared libraries: beside the program, or in ../lib."""
    folder = program.resolve().parent
    return sorted([*folder.glob("libggml-cuda*.so*"), *(folder.parent / "lib").glob("libggml-cuda*.so*")])
