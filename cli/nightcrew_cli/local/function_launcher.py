"""Start a function's worker in the emulator: with AWS's own libraries, and with layers unpacked once.

The emulator unpacks every layer anew for each worker, into a new folder, so Python would compile every package again
at each cold start. Here the host unpacks a layer once and hands the worker a pointer to it. Started as a program of its
own (standard library only): function_launcher.py <runtime libraries> <worker script>.
"""

import os
import sys
from pathlib import Path

POINTER = "nightcrew-layer"
"""File in a layer that names the folder where its content is."""


def shared(layer: str) -> str:
    """Return the folder that the layer points to, or the layer itself when it holds its own content."""
    try:
        return (Path(layer) / POINTER).read_text()
    except OSError:
        return layer


def main(libraries: str, *command: str) -> None:
    environment = dict(os.environ)  # noqa: TID251 - passed on, not read
    layers = [layer for layer in environment.get("_LAMBDA_LAYERS_DIRS", "").split(os.pathsep) if layer]
    environment["_LAMBDA_LAYERS_DIRS"] = os.pathsep.join(map(shared, layers))
    environment["PYTHONPATH"] = libraries
    for name in ("VIRTUAL_ENV", "PYTHONHOME", "PYTHONDONTWRITEBYTECODE"):
        environment.pop(name, None)
    os.execve(sys.executable, [sys.executable, "-S", *command], environment)  # noqa: S606 - becomes the worker


if __name__ == "__main__":
    main(*sys.argv[1:])
