"""What the words of `compute` mean on EC2: the architecture of a type, the image behind an alias."""

import re
from collections.abc import Sequence

ARM64 = "arm64"
X86_64 = "x86_64"

_AL2023 = "ssm:/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-{}"
_UBUNTU = "ssm:/aws/service/canonical/ubuntu/server/24.04/stable/current/{}/hvm/ebs-gp3/ami-id"
# Alias -> the image for each architecture it exists in.
ALIASES = {
    "al2023": {ARM64: _AL2023.format("arm64"), X86_64: _AL2023.format("x86_64")},
    "al2023-arm64": {ARM64: _AL2023.format("arm64")},
    "al2023-x86_64": {X86_64: _AL2023.format("x86_64")},
    "ubuntu-24.04": {ARM64: _UBUNTU.format("arm64"), X86_64: _UBUNTU.format("amd64")},
}
# General purpose, two generations each: one pool alone runs dry too easily.
DEFAULT_TYPES = {ARM64: ("m7g.large", "m6g.large"), X86_64: ("m7i.large", "m6i.large")}

_TYPE = re.compile(r"[a-z][a-z0-9-]*\.(nano|micro|small|medium|large|[1-9][0-9]*xlarge|xlarge|metal(-[0-9]+xl)?)")
# AWS names a family series, generation, attributes: im4gn = im, 4, gn. The attribute g stands for Graviton.
_FAMILY = re.compile(r"([a-z]+)([0-9]+)([a-z]*)")


def is_instance_type(text: str) -> bool:
    """Whether the text has the shape of an instance type (not whether AWS has it)."""
    return _TYPE.fullmatch(text) is not None


def architecture(instance_type: str) -> str:
    """Return the architecture that the family's name stands for."""
    family = instance_type.partition(".")[0]
    if family == "a1" or "-gb" in family:  # Graviton before the letter, and Grace Blackwell
        return ARM64
    match = _FAMILY.match(family)
    return ARM64 if match and "g" in match[3] else X86_64


def architectures(instance_types: Sequence[str]) -> tuple[str, ...]:
    """Return the architectures in the order in which they first appear."""
    return tuple(dict.fromkeys(map(architecture, instance_types)))
