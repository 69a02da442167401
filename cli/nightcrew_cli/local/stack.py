"""Build the template with sam and deploy it to the local stack, with the very commands that deploy it to AWS."""

import contextlib
import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nightcrew_cli.local.client import LocalError
from nightcrew_cli.local.running import Host, Progress, note_stack
from nightcrew_cli.local.settings import ENVIRONMENT

LAST_LINES = 25
SOURCES = ("functions", "layers")
MACHINES = {"x86_64": "x86_64", "amd64": "x86_64", "aarch64": "arm64", "arm64": "arm64"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """A stack as it stands on the local host."""

    stack: str
    outputs: dict[str, str]
    seconds: dict[str, float]


def deploy(
    host: Host,
    *,
    project: Path,
    stack: str = "nightcrew",
    parameters: Mapping[str, str] | None = None,
    template: str = "template.yaml",
    progress: Progress = lambda _phase, _detail: None,
) -> Deployment:
    """Build (cached) and deploy the project's template; return the stack's outputs."""
    sam = find_sam(project)
    work = project / ".aws-sam" / "local"
    build = work / stack
    values = {
        "Runtime": f"python{sys.version_info.major}.{sys.version_info.minor}",
        "Architecture": MACHINES.get(platform.machine().lower(), "x86_64"),
        **(parameters or {}),
    }
    overrides = [f"{name}={value}" for name, value in values.items()]
    environment = _environment(host)
    seconds = {}
    with _alone(work):
        seconds["build"] = 0.0
        built, sources = work / f"{stack}.built", _digest(project, template, overrides)
        command = [str(sam), "build", "--template-file", str(project / template), "--build-dir", str(build)]
        command += ["--cached", "--cache-dir", str(work / "cache"), "--parallel"]
        command += ["--parameter-overrides", *overrides]
        if _read(built) == sources and (build / "template.yaml").is_file():
            progress("build", "nothing has changed since the last build")
        else:
            progress("build", f"sam build {template}")
            built.unlink(missing_ok=True)
            seconds["build"] = _run(command, environment, project, progress, "build")
            built.write_text(sources)
        progress("deploy", f"sam deploy {stack}")
        command = [str(sam), "deploy", "--template-file", str(build / "template.yaml"), "--stack-name", stack]
        command += ["--resolve-s3", "--capabilities", "CAPABILITY_IAM", "--no-confirm-changeset"]
        command += ["--no-fail-on-empty-changeset", "--region", host.running.region]
        command += ["--parameter-overrides", *overrides]
        seconds["deploy"] = _run(command, environment, build, progress, "deploy")
    note_stack(Path(host.running.home), stack)
    return Deployment(stack=stack, outputs=stack_outputs(host, stack), seconds=seconds)


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the build folder: sam keeps no order between two builds in one place."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _digest(project: Path, template: str, overrides: Sequence[str]) -> str:
    """Return a digest of all that a build depends on: even a cached one moves thousands of files about."""
    found = hashlib.sha256("\n".join(overrides).encode())
    files = [file for name in SOURCES for file in (project / name).rglob("*") if file.is_file()]
    for file in sorted([project / template, *files]):
        if "__pycache__" not in file.parts:
            found.update(f"\0{file}\0{file.stat().st_mode}\0".encode())
            found.update(file.read_bytes())
    return found.hexdigest()


def _read(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:
        return ""


def find_sam(project: Path, environment: Mapping[str, str] = ENVIRONMENT) -> Path:
    """Return sam: $NIGHTCREW_SAM, .tools of the project or of a folder above, or PATH."""
    chosen = environment.get("NIGHTCREW_SAM")
    own, *above = (folder / ".tools" / "sam" / "bin" / "sam" for folder in (project, *project.parents))
    on_path = shutil.which("sam", path=environment.get("PATH", ""))
    for candidate in (chosen, own, *above, on_path):
        if candidate and Path(candidate).is_file() and os.access(candidate, os.X_OK):
            return Path(candidate)
    raise LocalError(
        "sam (the AWS SAM CLI) was not found. Install it in an environment of its own, because it pins other library "
        f"versions than the emulator:\n  python3 -m venv {own.parents[1]}\n"
        f"  {own.parent}/pip install aws-sam-cli\nor name one in NIGHTCREW_SAM."
    )


def stack_outputs(host: Host, stack: str) -> dict[str, str]:
    """Return the outputs of a stack on the local host."""
    import boto3  # noqa: TID251 - slow to import, needed by this call alone, and only for the local host

    client = boto3.client(
        "cloudformation",
        endpoint_url=host.running.endpoint,
        region_name=host.running.region,
        aws_access_key_id="test",
        aws_secret_access_key="test",  # noqa: S106 - the emulator's administrator
    )
    found = client.describe_stacks(StackName=stack)["Stacks"][0].get("Outputs", [])
    return {str(output["OutputKey"]): str(output["OutputValue"]) for output in found}


def _environment(host: Host) -> dict[str, str]:
    """Return sam's environment: the user's own without their AWS settings, and with the local host's.

    Python's own variables go too: sam has an interpreter of its own, and without kept bytecode it starts five times
    slower.
    """
    own = {name: value for name, value in ENVIRONMENT.items() if not name.startswith(("AWS_", "SAM_CLI_", "PYTHON"))}
    return (
        own
        | host.environment
        | {
            # The dependency layer is filled by the first python3 on PATH: ours, which has pip.
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), own.get("PATH", os.defpath)]),
            "SAM_CLI_TELEMETRY": "0",
            "SAM_CLI_POLL_DELAY": "0.2",
            "AWS_CONFIG_FILE": "/dev/null",
            "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
            "NO_PROXY": "127.0.0.1,localhost",
            "PYTHONUNBUFFERED": "1",
        }
    )


def _run(command: Sequence[str], environment: Mapping[str, str], folder: Path, progress: Progress, phase: str) -> float:
    """Run one command, stream its lines, return how long it took. Raise with the last lines when it fails."""
    from time import monotonic

    begun, lines = monotonic(), []
    with subprocess.Popen(
        command,
        cwd=folder,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as process:
        for line in process.stdout or ():
            text = line.rstrip()
            if text and "Uploading to" not in text:
                lines.append(text)
                progress(phase, text.strip())
    if process.returncode:
        raise LocalError(f"sam {phase} failed. Its last lines:\n" + "\n".join(lines[-LAST_LINES:]))
    return monotonic() - begun
