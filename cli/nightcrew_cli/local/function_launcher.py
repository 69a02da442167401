"""Start a function's worker in the emulator: with AWS's own libraries, and with layers unpacked once.

The emulator unpacks every layer anew for each worker, into a new folder, so Python would compile every package again
at each cold start. Here equal layers share one folder. Started as a program of its own (standard library only):
function_launcher.py <runtime libraries> <layer cache> <worker script>.
"""

import os
import shutil
import sys
import zlib
from pathlib import Path


def shared(layer: Path, cache: Path) -> Path:
    """Return the shared folder of an unpacked layer; the first worker's becomes everybody's."""
    archive = layer.with_suffix(".zip")
    if not archive.is_file():
        return layer
    content = archive.read_bytes()
    place = cache / f"{zlib.crc32(content):08x}-{len(content)}"
    if not place.is_dir():
        try:
            os.rename(layer, place)
        except OSError:
            return place if place.is_dir() else layer
        return place
    shutil.rmtree(layer, ignore_errors=True)
    return place


def main(libraries: str, cache: str, *command: str) -> None:
    environment = dict(os.environ)  # noqa: TID251 - passed on, not read
    layers = [Path(layer) for layer in environment.get("_LAMBDA_LAYERS_DIRS", "").split(os.pathsep) if layer]
    environment["_LAMBDA_LAYERS_DIRS"] = os.pathsep.join(str(shared(layer, Path(cache))) for layer in layers)
    environment["PYTHONPATH"] = libraries
    for name in ("VIRTUAL_ENV", "PYTHONHOME", "PYTHONDONTWRITEBYTECODE"):
        environment.pop(name, None)
    os.execve(sys.executable, [sys.executable, "-S", *command], environment)  # noqa: S606 - becomes the worker


if __name__ == "__main__":
    main(*sys.argv[1:])
