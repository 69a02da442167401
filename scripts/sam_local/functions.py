"""Builds the template for a run on this machine and calls its functions with `sam local invoke`."""

# ruff: noqa: TID251 - a command hands its environment on

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from sam_local import shell
from sam_local.errors import SamLocalError
from sam_local.image import FunctionImage

INVOKE_SECONDS = 240
ENDPOINT = "AWS_ENDPOINT_URL"
# sam asks for no account, but it wants a region and puts these into the container unless --env-vars says otherwise.
OFFLINE = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "SAM_CLI_TELEMETRY": "0",
    "SAM_CLI_CHECK_FOR_UPDATES": "0",
}
PROFILES = ("AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_SESSION_TOKEN", ENDPOINT)


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back. `answer` is None when nothing did; `log` is what sam and the function printed."""

    answer: Any
    log: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Functions:
    """The built functions; `logical_ids` maps a folder under functions/ to its name in the template."""

    sam: str
    template: Path
    overrides: tuple[str, ...]
    logical_ids: Mapping[str, str]
    host_address: str

    def invoke(self, function: str, event: Path, variables: Path) -> Reply:
        """Call a function; `variables` is a file for --env-vars."""
        command = [
            *(self.sam, "local", "invoke", self.logical_ids[function], "--template", str(self.template)),
            *("--event", str(event), "--env-vars", str(variables), "--skip-pull-image"),
            *("--add-host", f"host.docker.internal:{self.host_address}", *self.overrides),
        ]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, env=_offline(), timeout=INVOKE_SECONDS, check=False
            )
        except subprocess.TimeoutExpired:
            return Reply(None, f"no answer within {INVOKE_SECONDS} s")
        return Reply(_last_json_line(done.stdout), done.stderr)


def find_sam(root: Path) -> str:
    for candidate in (os.environ.get("NIGHTCREW_SAM"), str(root / ".tools/sam/bin/sam"), shutil.which("sam")):
        if candidate and Path(candidate).exists():
            return candidate
    raise SamLocalError("aws-sam-cli is not there: run `make setup`, or name the program in NIGHTCREW_SAM")


def build(sam: str, template: Path, folder: Path, image: FunctionImage, host_address: str) -> Functions:
    overrides = (
        "--parameter-overrides",
        f"ParameterKey=Runtime,ParameterValue={image.runtime}",
        f"ParameterKey=Architecture,ParameterValue={image.architecture}",
    )
    shell.run(
        [
            *(sam, "build", "--template", str(template), "--build-dir", str(folder)),
            *("--base-dir", str(template.parent), *overrides),
        ],
        env=_offline(),
    )
    built = folder / "template.yaml"
    return Functions(
        sam=sam,
        template=built,
        overrides=overrides,
        logical_ids=_logical_ids(built),
        host_address=host_address,
    )


def _logical_ids(built: Path) -> dict[str, str]:
    """Return the functions' names in the template by their folder: `LauncherFunction` or `Launcher` is `launcher`."""
    text = built.read_text("utf-8")
    if ENDPOINT not in text:
        # sam hands a variable on only when the template names it; without this one the calls would go to AWS.
        raise SamLocalError(f"the template must declare the variable {ENDPOINT} (empty will do) for its functions")
    resources = YAML(typ="rt").load(text)["Resources"]
    return {
        logical_id.lower().removesuffix("function"): logical_id
        for logical_id, resource in resources.items()
        if resource["Type"] == "AWS::Serverless::Function"
    }


def region() -> str:
    return os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"


def _offline() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in PROFILES}
    return kept | OFFLINE | {"AWS_REGION": region(), "AWS_DEFAULT_REGION": region()}


def _last_json_line(printed: str) -> Any:
    for line in reversed(printed.splitlines()):
        try:
            return json.loads(line)
        except ValueError:
            continue
    return None
