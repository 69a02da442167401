"""How functions run on the host: what they see, and how quickly they start."""

# ruff: noqa: SLF001 - replacing an emulator's inner parts is what this module is for

import hashlib
import importlib.util
import io
import shlex
import threading
import zipfile
from pathlib import Path
from typing import Any

from ministack.core import lambda_runtime
from ministack.services import lambda_svc

from nightcrew_cli.local.function_launcher import POINTER
from nightcrew_cli.local.settings import base_python

AWS_LIBRARIES = ("boto3", "botocore", "s3transfer", "jmespath", "dateutil", "six", "urllib3")
"""What AWS's own Python runtime brings; everything else has to come from the function or its layers."""
BATCHES_AT_ONCE = 2
"""How many batches of one queue are handled at a time, however many the mapping allows: each costs a process here."""


def install(folder: Path) -> None:
    _own_interpreter(folder)
    _shared_layers(LayerFolders(folder / "layers"))
    # A template that declares the variable for `sam local invoke` leaves it empty, which would mean the real AWS.
    lambda_runtime._RESERVED_RUNTIME_ENV_VARS.add("AWS_ENDPOINT_URL")
    allowed = lambda_svc._sqs_esm_concurrency
    lambda_svc._sqs_esm_concurrency = lambda *mapping: min(BATCHES_AT_ONCE, allowed(*mapping))


def _own_interpreter(folder: Path) -> None:
    """A function sees its code, its layers and what AWS's runtime brings, not the packages of our environment."""
    libraries, command = folder / "libraries", folder / "python"
    libraries.mkdir(parents=True, exist_ok=True)
    for name in AWS_LIBRARIES:
        spec = importlib.util.find_spec(name)
        if spec and spec.origin:
            origin = Path(spec.origin)
            source = origin.parent if origin.name == "__init__.py" else origin
            (libraries / source.name).symlink_to(source)
    start = [base_python(), "-I", "-S", str(Path(__file__).with_name("function_launcher.py")), str(libraries)]
    command.write_text(f'#!/bin/sh\nexec {shlex.join(start)} "$@"\n')
    command.chmod(0o755)
    detect = lambda_runtime._detect_runtime_binary

    def detect_runtime_binary(runtime: str) -> tuple[str, str]:
        binary, script = detect(runtime)
        return (str(command) if runtime.startswith("python") else binary), script

    lambda_runtime._detect_runtime_binary = detect_runtime_binary


class LayerFolders:
    """Layers, each unpacked once into a folder named after its content."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()

    def pointer_to(self, archive: bytes) -> bytes:
        """Return an archive that holds nothing but the name of the folder where the content is."""
        place = self._folder / hashlib.sha256(archive).hexdigest()[:16]
        with self._lock:
            if not place.is_dir():
                draft = place.with_suffix(".new")
                with zipfile.ZipFile(io.BytesIO(archive)) as content:
                    content.extractall(draft)
                draft.rename(place)
        pointer = io.BytesIO()
        with zipfile.ZipFile(pointer, "w") as content:
            content.writestr(POINTER, str(place))
        return pointer.getvalue()


def _shared_layers(folders: LayerFolders) -> None:
    resolve = lambda_svc._resolve_layer_zip

    def resolve_layer_zip(*reference: Any) -> Any:
        archive = resolve(*reference)
        return folders.pointer_to(archive) if archive else archive

    lambda_svc._resolve_layer_zip = resolve_layer_zip
