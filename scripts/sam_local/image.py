"""The image a function runs in: AWS's own when it can be had, else one made from Debian under the same name.

`sam local invoke` builds its container from `public.ecr.aws/lambda/python:<version>-<architecture>` and adds the
runtime emulator and the layers itself. All it needs from that image is a Python, a `bootstrap` and AWS's runtime
client, so that a machine without access to the registry can make a stand-in from a package mirror.
"""

# ruff: noqa: T201 - a command prints

import platform
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from sam_local import engine, shell
from sam_local.errors import NotPossibleHereError, SamLocalError

STAND_IN_LABEL = "nightcrew.stand-in"
STAND_IN_RECIPE = "1"
STAND_IN_RUNTIME = "python3.11"
DEBIAN_RELEASE = "bookworm"
DEBIAN_MIRROR = "http://deb.debian.org/debian"
PULL_SECONDS = 120
ARCHITECTURES = {"x86_64": "x86_64", "amd64": "x86_64", "aarch64": "arm64", "arm64": "arm64"}
BOOTSTRAP = """#!/bin/sh
export PYTHONPATH=/var/task:/opt/python:/var/runtime PATH="/opt/bin:$PATH"
exec python3 -m awslambdaric "$_HANDLER"
"""


@dataclass(frozen=True, slots=True)
class FunctionImage:
    runtime: str
    architecture: str
    is_stand_in: bool = False

    @property
    def name(self) -> str:
        return f"public.ecr.aws/lambda/{self.runtime.replace('python', 'python:')}-{self.architecture}"


def prepare_image(runtime: str, *, may_make: bool) -> FunctionImage:
    """Return an image that is on this machine: the wanted one if it is here or can be pulled, else the stand-in."""
    architecture = ARCHITECTURES[platform.machine().lower()]
    wanted = FunctionImage(runtime, architecture)
    stand_in = FunctionImage(STAND_IN_RUNTIME, architecture, is_stand_in=True)
    if _is_present(wanted) and not _is_stand_in(wanted):
        return wanted
    if _is_stand_in(stand_in):
        return stand_in
    print(f"pulling {wanted.name}", flush=True)
    if shell.succeeds(["docker", "pull", "--quiet", wanted.name], timeout=PULL_SECONDS):
        return wanted
    if not may_make:
        raise NotPossibleHereError(f"{wanted.name} cannot be pulled; --install makes a stand-in from Debian packages")
    print(f"it cannot be pulled: making a stand-in for {stand_in.runtime} from Debian (about a minute)", flush=True)
    _make(stand_in)
    return stand_in


def _is_present(image: FunctionImage) -> bool:
    return shell.succeeds(["docker", "image", "inspect", image.name])


def _is_stand_in(image: FunctionImage) -> bool:
    wanted = f'{{{{index .Config.Labels "{STAND_IN_LABEL}"}}}}'
    return _is_present(image) and shell.run(["docker", "image", "inspect", "--format", wanted, image.name]).strip() == (
        STAND_IN_RECIPE
    )


def _make(image: FunctionImage) -> None:
    engine.install_missing("debootstrap")
    with tempfile.TemporaryDirectory(prefix="nightcrew-image-") as folder:
        root = Path(folder, "root")
        shell.run(
            [
                *("debootstrap", "--variant=minbase", "--include=python3,ca-certificates"),
                *(DEBIAN_RELEASE, str(root), DEBIAN_MIRROR),
            ]
        )
        _add_runtime(root, image)
        _import(root, image)


def _add_runtime(root: Path, image: FunctionImage) -> None:
    runtime = root / "var/runtime"
    machine = "aarch64" if image.architecture == "arm64" else "x86_64"
    shell.run(
        [
            *(_python_with_pip(), "-m", "pip", "install", "--quiet", "--target", str(runtime)),
            *("--python-version", image.runtime.removeprefix("python"), "--platform", f"manylinux2014_{machine}"),
            *("--only-binary=:all:", "awslambdaric", "boto3"),
        ]
    )
    bootstrap = runtime / "bootstrap"
    bootstrap.write_text(BOOTSTRAP, "utf-8")
    bootstrap.chmod(0o755)
    (root / "var/task").mkdir(exist_ok=True)


def _python_with_pip() -> str:
    # A .venv made by uv has no pip; the one that holds uv itself has.
    for python in (sys.executable, ".tools/uv/bin/python", "python3"):
        if shell.succeeds([python, "-m", "pip", "--version"]):
            return python
    raise SamLocalError("making a base image needs pip: install python3-pip")


def _import(root: Path, image: FunctionImage) -> None:
    left_out = ["./var/cache/apt", "./var/lib/apt/lists", "./usr/share/doc", "./usr/share/man", "./usr/share/locale"]
    changes = [
        "WORKDIR /var/task",
        "ENV LAMBDA_TASK_ROOT=/var/task LAMBDA_RUNTIME_DIR=/var/runtime LANG=C.UTF-8 TZ=:UTC",
        f"LABEL {STAND_IN_LABEL}={STAND_IN_RECIPE}",
        'ENTRYPOINT ["/var/runtime/bootstrap"]',
    ]
    pack = ["tar", "-C", str(root), *(f"--exclude={path}" for path in left_out), "-c", "."]
    load = ["docker", "import", *(part for change in changes for part in ("--change", change)), "-", image.name]
    with subprocess.Popen(pack, stdout=subprocess.PIPE) as packer:
        loaded = subprocess.run(load, stdin=packer.stdout, capture_output=True, text=True, check=False)
    if packer.returncode != 0 or loaded.returncode != 0:
        raise SamLocalError(f"docker import of {image.name} failed: {loaded.stderr.strip()}")
