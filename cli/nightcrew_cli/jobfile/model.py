"""The job file as pydantic models: which fields there are, of what type and within which bounds.

One field at a time only; what fields say about each other is in checks.py.
"""

from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from nightcrew.domain.job import CapacityType, OnFinish
from nightcrew_cli.jobfile import fields, machine
from nightcrew_cli.jobfile.fields import Duration, Size, Text

_SECOND = timedelta(seconds=1)
_MINUTE = timedelta(minutes=1)
_DAY = timedelta(days=1)
_WEEK = timedelta(days=7)

JobName = Annotated[str, Text(check=fields.check_name, pattern=fields.NAME_PATTERN, examples=("nightly-report",))]
Command = Annotated[str, Text(check=fields.check_command, examples=("python3 report.py",))]
Description = Annotated[str, Text(longest=512)]
Owner = Annotated[str, Text(longest=128)]
Pattern = Annotated[str, Text(longest=500, examples=("report.py", "src/", "data/*.csv"))]
EnvName = Annotated[str, Text(check=fields.check_env_name)]
EnvValue = Annotated[str, Text(scalar=True)]
TagKey = Annotated[str, Text(check=fields.check_tag_key)]
TagValue = Annotated[str, Text(check=fields.check_tag_value, longest=256, scalar=True)]

CronFields = Annotated[str, Text(check=fields.check_cron, longest=200, examples=("30 2 * * *", "30 2 ? * MON-FRI *"))]
LocalTime = Annotated[str, Text(check=fields.check_at, examples=("2026-12-24T02:00",))]
TimeZone = Annotated[str, Text(check=fields.check_timezone, longest=50, examples=("Europe/Berlin", "UTC"))]
Interval = Annotated[timedelta, Duration(lowest=_MINUTE, highest=366 * _DAY)]
StartWithin = Annotated[timedelta, Duration(lowest=_MINUTE, highest=_DAY)]
Timeout = Annotated[timedelta, Duration(lowest=_SECOND, highest=_WEEK)]
Deadline = Annotated[timedelta, Duration(lowest=_MINUTE, highest=_WEEK)]
Wait = Annotated[timedelta, Duration(lowest=_SECOND, highest=_DAY)]

Image = Annotated[
    str, Text(check=fields.check_image, examples=(*machine.ALIASES, "ami-0123456789abcdef0", "ssm:/my/image"))
]
InstanceType = Annotated[str, Text(check=fields.check_instance_type, examples=("m7g.large", "m7i.large"))]
Subnet = Annotated[str, Text(check=fields.check_subnet, examples=("subnet-0123456789abcdef0",))]
Disk = Annotated[int, Size(lowest=1, highest=16 * 1024)]
NoRepeats = AfterValidator(fields.check_no_repeats)


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class ScheduleSection(_Section):
    """When the job runs: exactly one of cron, every and at."""

    cron: CronFields | None = Field(
        default=None, description="Five Unix fields or six AWS fields, told apart by their number."
    )
    every: Interval | None = Field(default=None, description="A fixed interval, counted from when the job was applied.")
    at: LocalTime | None = Field(default=None, description="Once, at this local time.")
    timezone: TimeZone = Field(default="UTC", description="IANA time zone of cron and at.")
    enabled: bool = Field(default=True, description="false pauses the schedule; runs by hand still work.")
    start_within: StartWithin | None = Field(
        default=None, description="A run that could not start this long after its tick is missed. Default 30m."
    )


class ComputeSection(_Section):
    """The machine."""

    image: Image = Field(default="al2023", description="An alias, ami-… or ssm:/path of an SSM parameter.")
    instance_types: Annotated[list[InstanceType], NoRepeats] | None = Field(
        default=None, min_length=1, max_length=20, description="Types to try, best first; all of one architecture."
    )
    capacity_type: Annotated[CapacityType, Field(strict=False)] = Field(
        default=CapacityType.ON_DEMAND, description="How the machine is bought."
    )
    disk: Disk | None = Field(default=None, description="Size of the root disk. Default: the image's own.")
    subnets: Annotated[list[Subnet], NoRepeats] = Field(
        default=[], max_length=16, description="Subnets to launch in instead of the stack's."
    )


class BackoffSection(_Section):
    """The wait before a retry: initial, then factor times longer each time, up to max."""

    initial: Wait = Field(default=_MINUTE, description="Wait before the first retry.")
    factor: int = Field(default=2, ge=1, le=10, description="How many times longer each further wait is.")
    max: Wait = Field(default=15 * _MINUTE, description="The longest wait.")


class RetrySection(_Section):
    """What happens when an attempt ends badly."""

    attempts: int = Field(
        default=1, ge=1, le=10, description="All attempts at the job's own failures, the first included."
    )
    interruptions: int = Field(
        default=3, ge=0, le=20, description="Further attempts when AWS, not the job, ended or prevented one."
    )
    backoff: BackoffSection = Field(default=BackoffSection(), description="The wait before a retry.")


class JobSection(_Section):
    """One job."""

    version: Literal[1] = Field(default=1, description="Version of this format.")
    name: JobName = Field(description="Name of the job, unique in the stack.")
    description: Description = Field(default="", description="What the job is for.")
    owner: Owner = Field(default="", description="Who to ask about it.")
    schedule: ScheduleSection | None = Field(default=None, description="When it runs. Without one: only by hand.")
    command: Command = Field(description="Shell text that the worker runs.")
    files: Annotated[list[Pattern], NoRepeats] = Field(
        default=[], max_length=100, description="Files, folders and globs beside the job file to bring along."
    )
    env: Annotated[dict[EnvName, EnvValue], AfterValidator(fields.check_env_size)] = Field(
        default={}, description="Environment variables of the command. Not for secrets."
    )
    compute: ComputeSection = Field(default=ComputeSection(), description="The machine it runs on.")
    timeout: Timeout | None = Field(default=None, description="Longest time of one attempt. Default 1h.")
    deadline: Deadline | None = Field(
        default=None, description="Longest time of the run, counted from its tick, waits and retries included."
    )
    retry: RetrySection = Field(default=RetrySection(), description="What happens when an attempt ends badly.")
    on_finish: Annotated[OnFinish, Field(strict=False)] = Field(
        default=OnFinish.TERMINATE, description="What becomes of the worker after its attempt."
    )
    tags: dict[TagKey, TagValue] = Field(
        default={}, max_length=40, description="Tags on the instance, its volumes and network interfaces."
    )


def schema() -> dict[str, Any]:
    """Return the JSON Schema of a job file, for editors."""
    generated = _tidy(JobSection.model_json_schema())
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **generated, "title": "Nightcrew job"}


def _tidy(node: Any) -> Any:
    """Drop what pydantic says about Python: null stands for "not given", which in YAML is leaving the key out."""
    if isinstance(node, list):
        return [_tidy(item) for item in node]
    if not isinstance(node, dict):
        return node
    tidied = {
        key: _tidy(value)
        for key, value in node.items()
        if value is not None and not (key == "title" and isinstance(value, str))
    }
    variants = [variant for variant in tidied.get("anyOf", []) if variant != {"type": "null"}]
    if len(variants) == 1:
        del tidied["anyOf"]
        tidied = {**variants[0], **tidied}
    return tidied
