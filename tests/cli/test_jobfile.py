"""Job files from text to compiled job: what is accepted, what it becomes, and how every refusal reads."""

import gzip
import hashlib
import io
import json
import os
import re
import subprocess
import sys
import tarfile
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import jsonschema
import pytest
from cronsim import CronSim
from hypothesis import given, settings
from hypothesis import strategies as st

from nightcrew.domain.job import Job
from nightcrew.domain.schedule import ScheduleError, parse
from nightcrew_cli.jobfile import JobFile, JobFileError, archive, load, schema
from nightcrew_cli.jobfile.compiler import rate_expression
from nightcrew_cli.jobfile.crontab import at_expression, cron_expression
from nightcrew_cli.jobfile.machine import architecture, is_instance_type
from nightcrew_cli.jobfile.quantity import format_duration, parse_duration, parse_gibibytes

ROOT = Path(__file__).parents[2]
DATA = Path(__file__).parent / "jobfile"
NOW = datetime(2026, 1, 1, tzinfo=UTC)
OVER = "the schedule has no tick left: the job will not run again on its own"
SMALL = "name: small\ncommand: 'true'\n"


class Folder:
    """A folder of job files for one test."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, text: str | bytes, name: str = "job.yaml") -> Path:
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    def load(self, text: str | bytes) -> JobFile:
        (job_file,) = load([self.write(text)], now=NOW)
        return job_file

    def job(self, text: str) -> Job:
        return self.load(SMALL + text).job

    def problems(self, text: str | bytes) -> list[str]:
        """The problems, without the folder."""
        with pytest.raises(JobFileError) as error:
            load([self.write(text)], now=NOW)
        return [str(problem).removeprefix(f"{self.path}/job.yaml:") for problem in error.value.problems]


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def test_a_full_job_compiles_to_the_contract() -> None:
    (job_file,) = load([DATA / "full.yaml"], now=NOW)

    assert job_file.job.to_json() == json.loads((DATA / "full.json").read_text())
    assert [str(warning) for warning in job_file.warnings] == [
        f"{DATA}/full.yaml:5:1: 2026-03-29 02:30 does not exist in Europe/Berlin: no run",
        f"{DATA}/full.yaml:5:1: 2026-10-25 02:30 comes twice in Europe/Berlin: one run, at the first",
    ]


def test_a_small_job_gets_the_documented_defaults(folder: Folder) -> None:
    job = folder.job("")

    assert job.to_json() == {
        "version": 1,
        "name": "small",
        "description": "",
        "owner": "",
        "schedule": None,
        "command": "true",
        "env": {},
        "files": None,
        "compute": {
            "image": "ssm:/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-arm64",
            "instance_types": ["m7g.large", "m6g.large"],
            "capacity_type": "on-demand",
            "disk_gib": None,
            "subnets": [],
        },
        "timeout": 3600,
        "deadline": 9060,
        "retry": {"attempts": 1, "interruptions": 3, "backoff": {"initial": 60, "factor": 2, "max": 900}},
        "on_finish": "terminate",
        "tags": {},
    }


def test_every_problem_is_reported_at_once_with_its_place() -> None:
    with pytest.raises(JobFileError) as error:
        load([DATA / "bad.yaml"], now=NOW)

    got = [str(problem).removeprefix(f"{DATA}/") for problem in error.value.problems]
    assert got == (DATA / "bad.txt").read_text().splitlines()


NOT_A_MAPPING = "1:1: a job file is a mapping of fields, such as 'name: nightly-report'"
NO_VALUE = "has no value, give it one or leave the key out"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        pytest.param("", " the file is empty, it holds no job", id="empty"),
        pytest.param("# nothing\n---\n", " the file is empty, it holds no job", id="only comments"),
        pytest.param("- a\n", NOT_A_MAPPING, id="a list"),
        pytest.param("just text", NOT_A_MAPPING, id="text"),
        pytest.param(
            b"name: x\ncommand: \xff\n", "2:10: the byte 0xff is not UTF-8: save the file as UTF-8", id="bytes"
        ),
        pytest.param("x".encode("utf-16"), "1:1: the byte 0xff is not UTF-8: save the file as UTF-8", id="UTF-16"),
        pytest.param("name: a\x07\n", "1:8: the character U+0007 is not allowed", id="a control character"),
        pytest.param("schedule:\n\tcron: x\n", "2:1: a tab cannot indent YAML, use spaces", id="a tab"),
        pytest.param(
            "files: [a\nname: x\n",
            "2:5: this is not YAML: expected ',' or ']', but got ':' while parsing a flow sequence"
            " that starts at line 1",
            id="an open bracket",
        ),
        pytest.param("name: *x\n", "1:7: this is not YAML: found undefined alias 'x'", id="an unknown alias"),
        pytest.param(
            SMALL + "name: b\n", "3:1: duplicate key 'name', first given at line 1, column 1", id="a duplicate key"
        ),
        pytest.param(
            SMALL + "env:\n  A: 1\n  B: 2\n  A: 1\n",
            "6:3: duplicate key 'A', first given at line 4, column 3",
            id="a duplicate further in",
        ),
        pytest.param(SMALL + "owner:\n", f"3:1: 'owner' {NO_VALUE}", id="a key without value"),
        pytest.param("name:\ncommand: x\n", f"1:1: 'name' {NO_VALUE}", id="a name without value"),
        pytest.param("command: x\n", "1:1: 'name' is missing", id="no name"),
        pytest.param(
            SMALL + "owner: !!python/name:os.system x\n",
            "3:8: YAML tags such as '!!python/name:os.system' are not supported",
            id="a tag",
        ),
        pytest.param(
            SMALL + "env:\n  <<: {A: 1}\n",
            "4:3: merge keys ('<<') are not supported, repeat the values",
            id="a merge key",
        ),
        pytest.param(SMALL + "env: {[a]: 1}\n", "3:7: a key must be a plain word", id="a list as key"),
    ],
)
def test_what_is_not_a_job_file(folder: Folder, text: str | bytes, problem: str) -> None:
    assert folder.problems(text) == [problem]


def refused() -> list[tuple[str, str]]:
    """The cases of refused.txt: lines of YAML and, after an arrow, the problem."""
    cases = (DATA / "refused.txt").read_text().split("\n\n")[1:]
    return [(text, problem.strip()) for text, _, problem in (case.partition("\n=> ") for case in cases) if problem]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        *refused(),
        ("description: " + "x" * 513, "3:14: description: this has 513 characters, 512 are allowed"),
        ('owner: "a\\0b"', "3:8: owner: this contains a character that is not text"),
        (
            "env: {A: " + "x" * 33000 + "}",
            "3:6: env: all variables together are longer than 32 KiB: ship a file instead",
        ),
        ("tags: {team: " + "x" * 257 + "}", "3:14: tags.team: this has 257 characters, 256 are allowed"),
        (
            "tags: {" + ", ".join(f"t{n}: 1" for n in range(41)) + "}",
            "3:7: tags: this has 41, at most 40 are allowed",
        ),
    ],
)
def test_a_bad_value_is_refused_where_it_stands(folder: Folder, text: str, problem: str) -> None:
    (got,) = folder.problems(f"{SMALL}{text}\n")

    assert got.startswith(problem)


@pytest.mark.parametrize("name", ["", "-a", "a-", "A", "a_b", "a b", "ä", "a" * 49])
def test_names_are_checked(folder: Folder, name: str) -> None:
    (got,) = folder.problems(f"name: '{name}'\ncommand: x\n")

    assert got.startswith(f"1:7: name: {name!r} is not a job name")


@pytest.mark.parametrize("command", ["''", "'  '", "x" * (32 * 1024 + 1)])
def test_commands_are_checked(folder: Folder, command: str) -> None:
    (got,) = folder.problems(f"name: a\ncommand: {command}\n")

    assert got.startswith("2:10: command: the command is")


def test_a_contradiction_shows_beside_other_problems_but_not_because_of_them(folder: Folder) -> None:
    got = folder.problems(
        "name: Bad\ntimeout: 3h\ndeadline: 2\non_finish: stop\ncompute: {capacity_type: spot, disk: 1, image: al2024}\n"
    )

    assert [problem.split(":")[:2] for problem in got] == [
        ["1", "1"],  # command is missing
        ["1", "7"],  # name
        ["3", "11"],  # deadline, and so nothing about timeout > deadline
        ["4", "12"],  # stop with Spot
        ["5", "38"],  # disk
        ["5", "48"],  # image, and so nothing about its architecture
    ]


def test_yaml_values_are_taken_as_written(folder: Folder) -> None:
    job = folder.job(
        "env: {A: 010, B: yes, C: 1.50, D: true, E: 12:30, F: 2026-01-01, G: '', H: 0x1f}\ntags: {cost: 007}\n"
    )

    assert job.env == {
        "A": "010", "B": "yes", "C": "1.50", "D": "true", "E": "12:30", "F": "2026-01-01", "G": "", "H": "0x1f"
    }  # fmt: skip
    assert job.tags == {"cost": "007"}


def test_anchors_work(folder: Folder) -> None:
    job = folder.job("env: &both {A: 1}\ntags: *both\n")

    assert job.env == job.tags == {"A": "1"}


def test_an_alias_bomb_is_refused_quickly(folder: Folder) -> None:
    lines = ["a: &a [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"{b}: &{b} [{', '.join([f'*{a}'] * 10)}]" for a, b in zip("abcd", "bcde", strict=True)]

    got = folder.problems("\n".join(lines))

    assert any("too many or too deeply nested values" in problem for problem in got)


@pytest.mark.parametrize("text", ["a: &a [*a]\n", "a: " + "[" * 50 + "]" * 50, "a: " + "[" * 1_000])
def test_endless_nesting_is_refused(folder: Folder, text: str) -> None:
    assert any("nested" in problem for problem in folder.problems(text))


def test_a_file_of_more_than_256_kib_is_not_read(folder: Folder) -> None:
    (got,) = folder.problems(SMALL + "#" * 256 * 1024)

    assert got.endswith("the file is larger than 256 KiB, too large for a job file")


@pytest.mark.parametrize(
    ("text", "expressions"),
    [
        ("{cron: 30 2 * * *}", "cron(30 2 * * ? *)"),
        ("{cron: 0  2 ? * mon-fri *}", "cron(0 2 ? * MON-FRI *)"),
        ("{every: 1d}", "rate(1 day)"),
        ("{at: 2026-12-24 02:00}", "at(2026-12-24T02:00:00)"),
        ("{at: 2026-12-24T02:00:30}", "at(2026-12-24T02:00:30)"),
    ],
)
def test_schedules_become_one_scheduler_expression(folder: Folder, text: str, expressions: str) -> None:
    job = folder.job(f"schedule: {text}\n")

    assert job.schedule is not None
    assert job.schedule.expressions == (expressions,)
    assert job.schedule.start_within == timedelta(minutes=30)


@pytest.mark.parametrize(
    ("unix", "aws"),
    [
        ("30 2 * * *", "30 2 * * ? *"),
        ("*/15 * * * *", "*/15 * * * ? *"),
        ("0 2 1,15 * *", "0 2 1,15 * ? *"),
        ("0 2 */2 * *", "0 2 */2 * ? *"),
        ("0 2 */1 * 1", "0 2 ? * MON *"),
        ("0 2 * jan-mar *", "0 2 * JAN-MAR ? *"),
        ("0 2 * JUL *", "0 2 * JUL ? *"),
        ("0 2 * * 0", "0 2 ? * SUN *"),
        ("0 2 * * 7", "0 2 ? * SUN *"),
        ("0 2 * * 1-5", "0 2 ? * MON-FRI *"),
        ("0 2 * * mon-fri", "0 2 ? * MON-FRI *"),
        ("0 2 * * 5-7", "0 2 ? * SUN,FRI-SAT *"),
        ("0 2 * * FRI-SUN", "0 2 ? * SUN,FRI-SAT *"),
        ("0 2 * * 0-7", "0 2 ? * SUN-SAT *"),
        ("0 2 * * */2", "0 2 ? * SUN,TUE,THU,SAT *"),
        ("0 2 * * 1-5/2", "0 2 ? * MON,WED,FRI *"),
        ("0 2 * * SUN,WED", "0 2 ? * SUN,WED *"),
    ],
)
def test_crontab_fields_are_translated(unix: str, aws: str) -> None:
    assert cron_expression(unix) == f"cron({aws})"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("0 2 1 * 1", "both limited: crontab would run on either"),
        ("0 2 */2 * 1", "both limited"),
        ("0 2 1-31 * 1", "both limited"),
        ("5/15 2 * * *", "a step needs a range or '*' before it"),
        ("0 2 * * 1/2", "a step needs a range"),
        ("0 2 L * *", "AWS cron, which has six fields"),
        ("0 2 15W * *", "AWS cron, which has six fields"),
        ("0 2 ? * 1", "AWS cron, which has six fields"),
        ("0 2 * * 5L", "AWS cron, which has six fields"),
        ("0 2 * * 1#2", "AWS cron, which has six fields"),
        ("0 2 * * 8", "'8' is not understood"),
        ("0 2 * * MOO", "'MOO' is not a day"),
        ("0 2 * * 5-1", "runs backwards"),
        ("0 2 * * */0", "is not understood"),
        ("0 22-2 * * *", "runs backwards"),
        ("0 24 * * *", "hour '24'"),
        ("0 2 31 2 * ?", "exactly one of the two"),
        ("0 0 2 * * MON *", "has 7 fields"),
        ("daily", "has 1 fields"),
        ("@daily", "write '0 0 * * *'"),
        ("@HOURLY", "write '0 * * * *'"),
        ("cron(0 2 * * ? *)", "without 'cron('"),
        ("0 2 * JULY *", "'JULY' is not understood"),
    ],
)
def test_cron_that_cannot_be_translated_says_why(text: str, words: str) -> None:
    with pytest.raises(ScheduleError) as error:
        cron_expression(text)

    assert words in str(error.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("2026-12-24T02:00Z", "carries an offset: leave it out and set 'timezone'"),
        ("2026-12-24T02:00+01:00", "carries an offset"),
        ("2026-12-24", "is not a time"),
        ("24.12.2026 02:00", "is not a time"),
        ("2026-02-30T02:00", "day is out of range for month"),
        ("2026-12-24T25:00", "hour must be in 0..23"),
        ("1812-12-24T02:00", "1970 to 2199"),
    ],
)
def test_a_bad_at_says_why(text: str, words: str) -> None:
    with pytest.raises(ScheduleError) as error:
        at_expression(text)

    assert words in str(error.value)


def field(lowest: int, highest: int) -> st.SearchStrategy[str]:
    one = st.integers(lowest, highest)
    span = st.tuples(one, one).filter(lambda p: p[0] < p[1]).map("{0[0]}-{0[1]}".format)  # cronsim reads 0-0/1 as *
    stepped = st.tuples(span | st.just("*"), st.integers(1, highest - lowest)).map("{0[0]}/{0[1]}".format)
    return st.just("*") | st.lists(one.map(str) | span | stepped, min_size=1, max_size=3).map(",".join)


@settings(max_examples=200, deadline=None)
@given(field(0, 59), field(0, 23), field(1, 28), field(1, 12), field(0, 7), st.booleans(), st.datetimes(
    datetime(2026, 1, 1), datetime(2030, 1, 1))  # noqa: DTZ001
)  # fmt: skip
def test_translated_crontab_fires_when_crontab_would(
    minute: str, hour: str, day: str, month: str, weekday: str, by_day: bool, start: datetime
) -> None:
    text = f"{minute} {hour} {day} {month} *" if by_day else f"{minute} {hour} * {month} {weekday}"
    start = start.replace(second=0, microsecond=0, tzinfo=ZoneInfo("UTC"))
    simulated = CronSim(text, start)

    ours = parse(cron_expression(text)).ticks_between(start + timedelta(minutes=1), start + timedelta(days=6000), "UTC")

    assert [next(ours) for _ in range(3)] == [next(simulated) for _ in range(3)]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("2h", 7200), ("90m", 5400), ("1h30m", 5400), ("15 min", 900), ("1h 30m", 5400), ("1 day", 86400),
     ("2 hours", 7200), ("45s", 45), ("1d2h3m4s", 93784), ("0m", 0), (" 2h ", 7200)],
)  # fmt: skip
def test_durations(text: str, seconds: int) -> None:
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "value",
    ["", " ", "2", 2, 2.5, "-5m", "1.5h", "2H", "30m1h", "2h2h", "h", "2 h ours", "PT2H", "4hh", None, True, "²h"],
)
def test_what_is_no_duration(value: Any) -> None:
    with pytest.raises(ValueError, match=r"unit|is not a duration"):
        parse_duration(value)


@given(st.integers(1, 10**7))
def test_durations_are_spelled_as_they_are_read(seconds: int) -> None:
    assert parse_duration(format_duration(timedelta(seconds=seconds))) == timedelta(seconds=seconds)


@pytest.mark.parametrize(("text", "gibibytes"), [("30GiB", 30), ("1 TiB", 1024)])
def test_sizes(text: str, gibibytes: int) -> None:
    assert parse_gibibytes(text) == gibibytes


@pytest.mark.parametrize(
    ("every", "expression"),
    [
        (timedelta(minutes=1), "rate(1 minute)"),
        (timedelta(minutes=90), "rate(90 minutes)"),
        (timedelta(hours=1), "rate(1 hour)"),
        (timedelta(hours=36), "rate(36 hours)"),
        (timedelta(days=2), "rate(2 days)"),
    ],
)
def test_intervals_use_the_largest_unit_that_fits(every: timedelta, expression: str) -> None:
    assert rate_expression(every) == expression
    assert parse(expression)


def test_architecture_and_shape_agree_with_the_whole_catalogue() -> None:
    moto = find_spec("moto")  # its data only: importing it takes seconds
    assert moto is not None
    assert moto.origin is not None
    resource = Path(moto.origin).parent / "ec2" / "resources" / "instance_types.json.gz"
    catalogue = json.loads(gzip.decompress(resource.read_bytes()))
    supported = {
        kind: info["ProcessorInfo"]["SupportedArchitectures"]
        for kind, info in catalogue.items()
        if not kind.startswith("mac")
    }

    assert len(supported) > 1000
    assert [kind for kind in supported if not is_instance_type(kind)] == []
    assert [kind for kind, words in supported.items() if architecture(kind) not in words] == []


@pytest.mark.parametrize(
    ("family", "expected"),
    [
        (family, "arm64")
        for family in [
            "a1",
            "t4g",
            "m7g",
            "c6gn",
            "r8gd",
            "x2gd",
            "im4gn",
            "is4gen",
            "i8ge",
            "hpc7g",
            "g5g",
            "p6e-gb200",
        ]
    ]
    + [
        (family, "x86_64")
        for family in [
            "g4dn",
            "g4ad",
            "g5",
            "g6e",
            "gr6",
            "t3a",
            "m7i-flex",
            "p4de",
            "u-6tb1",
            "u7in-16tb",
            "dl2q",
            "z1d",
        ]
    ],
)
def test_the_letter_g_means_graviton_only_after_the_generation(family: str, expected: str) -> None:
    assert architecture(f"{family}.xlarge") == expected


@pytest.mark.parametrize(
    ("compute", "image", "types"),
    [
        ("{}", "al2023-ami-kernel-default-arm64", ("m7g.large", "m6g.large")),
        ("{image: al2023-x86_64}", "al2023-ami-kernel-default-x86_64", ("m7i.large", "m6i.large")),
        ("{instance_types: [g5.xlarge]}", "al2023-ami-kernel-default-x86_64", ("g5.xlarge",)),
        ("{image: ubuntu-24.04}", "stable/current/arm64/hvm/ebs-gp3/ami-id", ("m7g.large", "m6g.large")),
        (
            "{image: ubuntu-24.04, instance_types: [c7i.large]}",
            "stable/current/amd64/hvm/ebs-gp3/ami-id",
            ("c7i.large",),
        ),
        ("{image: ami-0123456789abcdef0, instance_types: [c7i.large]}", "ami-0123456789abcdef0", ("c7i.large",)),
        ("{image: 'ssm:/my/image', instance_types: [c7g.large]}", "ssm:/my/image", ("c7g.large",)),
    ],
)
def test_images_follow_the_architecture(folder: Folder, compute: str, image: str, types: tuple[str, ...]) -> None:
    job = folder.job(f"compute: {compute}\n")

    assert job.compute.image.endswith(image)
    assert job.compute.instance_types == types


@pytest.mark.parametrize(
    ("text", "timeout", "start_within", "deadline"),
    [
        ("{}", "1h", "30m", "2h31m"),
        ("{timeout: 2h}", "2h", "30m", "4h31m"),
        ("{deadline: 20m}", "20m", "20m", "20m"),
        ("{timeout: 2h, retry: {interruptions: 0}}", "2h", "30m", "2h30m"),
        ("{timeout: 2h, retry: {attempts: 3, interruptions: 0}}", "2h", "30m", "6h33m"),
        ("{timeout: 2h, retry: {attempts: 3}}", "2h", "30m", "8h37m"),
        ("{timeout: 61s, retry: {backoff: {initial: 1s, max: 1s}}}", "1m1s", "30m", "32m3s"),
        ("{timeout: 7d}", "168h", "30m", "168h"),
    ],
)
def test_limits_when_they_are_not_given(
    folder: Folder, text: str, timeout: str, start_within: str, deadline: str
) -> None:
    job = folder.load("{" + f"name: a, command: x, schedule: {{every: 6h}}, {text[1:-1] or 'version: 1'}" + "}").job

    rounded_up = -(-parse_duration(deadline) // timedelta(minutes=1)) * timedelta(minutes=1)
    assert job.timeout == parse_duration(timeout)
    assert job.schedule is not None
    assert job.schedule.start_within == parse_duration(start_within)
    assert job.deadline == rounded_up


@pytest.mark.parametrize(
    ("text", "warnings"),
    [
        ("{}", ["no deadline given: the run may take until 2h31m after its tick"]),
        ("deadline: 2h", []),
        ("deadline: 2h\ncompute: {capacity_type: spot}", []),
        (
            "deadline: 2h\ncompute: {capacity_type: spot}\nretry: {interruptions: 0}",
            ["with capacity on Spot and no interruptions, the first one ends the run"],
        ),
        (
            "deadline: 2h\nenv: {DB_PASSWORD: x}",
            ["'DB_PASSWORD' looks like a secret: env is stored and shown as it is; fetch it in the command"],
        ),
        ("deadline: 2h\nschedule: {at: 2025-12-24T02:00}", [OVER]),
        ("deadline: 2h\nschedule: {cron: 0 2 * * ? 2025}", [OVER]),
        ("deadline: 2h\nschedule: {every: 6h, timezone: Europe/Berlin}", []),
        ("deadline: 2h\nschedule: {cron: 30 3 * * *, timezone: Europe/Berlin}", []),
    ],
)  # fmt: skip
def test_warnings(folder: Folder, text: str, warnings: list[str]) -> None:
    job_file = folder.load(SMALL + (text + "\n" if text != "{}" else ""))

    assert [warning.message for warning in job_file.warnings] == warnings


def test_without_a_date_there_is_no_warning_about_dates(folder: Folder) -> None:
    path = folder.write(SMALL + "deadline: 2h\nschedule: {at: 2025-12-24T02:00}\n")

    (job_file,) = load([path])

    assert job_file.warnings == ()


def test_several_jobs_in_one_file_and_folders_in_order(folder: Folder) -> None:
    folder.write("name: b1\ncommand: x\n---\nname: b2\ncommand: x\n---\n", "jobs/b.yaml")
    folder.write("name: a\ncommand: x\n", "jobs/deep/er/a.yml")
    folder.write("not a job", "jobs/readme.txt")
    folder.write("not a job", "jobs/.hidden/x.yaml")
    folder.write("not a job", "jobs/.hidden.yaml")

    got = load([folder.path / "jobs", folder.path / "jobs" / "b.yaml"])

    assert [job_file.job.name for job_file in got] == ["b1", "b2", "a"]


def test_a_syntax_error_does_not_hide_the_problems_before_it(folder: Folder) -> None:
    got = folder.problems("name: Bad\ncommand: x\n---\nname: [\n")

    assert [problem.split(":")[0] for problem in got] == ["1", "5"]


def test_one_name_for_two_jobs_is_refused_naming_both(folder: Folder) -> None:
    first = folder.write(SMALL, "a.yaml")
    second = folder.write("command: x\nname: small\n", "b.yaml")

    with pytest.raises(JobFileError) as error:
        load([folder.path])

    assert str(error.value) == f"{second}:2:7: the job name 'small' is already taken by {first}:1"


def test_what_is_not_there_is_named(folder: Folder) -> None:
    missing, empty = folder.path / "missing.yaml", folder.path / "empty"
    empty.mkdir()

    with pytest.raises(JobFileError) as error:
        load([missing, empty])

    assert [str(problem) for problem in error.value.problems] == [
        f"{missing}: there is no such file",
        f"{empty}: there is no .yaml or .yml file in this folder",
    ]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_named(folder: Folder) -> None:
    folder.write(SMALL).chmod(0)

    with pytest.raises(JobFileError, match="cannot be read: Permission denied"):
        load([folder.path / "job.yaml"])


def unpacked(job_file: JobFile) -> dict[str, tuple[bytes, int]]:
    assert job_file.files_archive is not None
    with tarfile.open(fileobj=io.BytesIO(job_file.files_archive), mode="r:gz") as tar:
        members = tar.getmembers()
        assert all(member.isreg() and member.mtime == member.uid == member.gid == 0 for member in members)
        assert [member.name for member in members] == sorted(member.name for member in members)
        return {m.name: (tar.extractfile(m).read(), m.mode) for m in members}  # type: ignore[union-attr]


def test_files_are_packed_with_their_names_contents_and_executable_bit(folder: Folder) -> None:
    folder.write("print(1)\n", "src/main.py").chmod(0o700)
    folder.write(b"\0" * 200_000, "src/deep/data.bin")
    folder.write("", "src/__pycache__/main.pyc")
    folder.write("", "src/old.pyc")
    folder.write("", "src/.git/config")
    folder.write("ä", "ä.txt")
    folder.write("no", "other.csv")

    job_file = folder.load(SMALL + "files: [src/, src/main.py, '*.txt']\n")

    assert unpacked(job_file) == {
        "src/deep/data.bin": (b"\0" * 200_000, 0o644),
        "src/main.py": (b"print(1)\n", 0o755),
        "ä.txt": ("ä".encode(), 0o644),
    }
    assert job_file.files_archive is not None
    digest = hashlib.sha256(job_file.files_archive).hexdigest()
    assert job_file.job.files is not None
    assert job_file.job.files.to_json() == {"key": f"files/{digest}.tar.gz", "sha256": digest}


def test_the_archive_depends_on_nothing_but_the_files(tmp_path: Path) -> None:
    one, two = Folder(tmp_path / "one"), Folder(tmp_path / "two")
    one.write("b", "b")
    one.write("a", "a")
    two.write("a", "a")
    two.write("b", "b").chmod(0o600)
    os.utime(two.path / "a", (0, 0))

    archives = [one.load(SMALL + "files: [b, a]\n"), two.load(SMALL + "files: ['?']\n")]

    assert archives[0].files_archive == archives[1].files_archive
    assert archives[0].job.revision == archives[1].job.revision


def test_the_archive_of_known_files_stays(folder: Folder) -> None:
    # Another hash on another machine or Python would show every job with files as changed.
    folder.write("hello\n", "hello.txt")

    job = folder.job("files: [hello.txt]\n")

    assert job.files is not None
    assert job.files.sha256[:16] == "10144618278582f3"


@pytest.mark.parametrize("size", [1, 65_534, 65_535, 65_536, 131_070, 131_071])
def test_the_archive_is_gzip_at_every_block_boundary(size: int) -> None:
    content = bytes(range(256)) * (size // 256 + 1)

    assert gzip.decompress(archive._gzip(content[:size])) == content[:size]


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("missing.py", "'missing.py' matches nothing in"),
        ("*.nope", "'*.nope' matches nothing in"),
        ("../x", "'../x' leaves the folder of the job file"),
        ("a/../../x", "leaves the folder of the job file"),
        ("/etc/passwd", "must be a path relative to the job file"),
        ("a\\b", "must be a path relative to the job file"),
        ("out", "'out' is a link to something outside of"),
        ("outdir/", "'outdir' is a link to something outside of"),
        ("loop", "'loop' is a link to a folder"),
        ("tree", "'tree/up' is a link to a folder"),
        ("pipe", "'pipe' is neither a file nor a folder"),
        ("dangling", "'dangling' matches nothing in"),
    ],
)
def test_files_that_cannot_be_packed_are_refused(folder: Folder, pattern: str, words: str) -> None:
    folder.write("secret", "../outside.txt")
    folder.write("x", "tree/leaf")
    (folder.path / "out").symlink_to(folder.path.parent / "outside.txt")
    (folder.path / "outdir").symlink_to(folder.path.parent)
    (folder.path / "loop").symlink_to("tree")
    (folder.path / "tree" / "up").symlink_to("..")
    (folder.path / "dangling").symlink_to("nowhere")
    os.mkfifo(folder.path / "pipe")

    (got,) = folder.problems(SMALL + f"files: ['{pattern}']\n")

    assert got.startswith("3:9: files: ")
    assert words in got


def test_a_link_to_a_file_inside_is_packed_as_that_file(folder: Folder) -> None:
    folder.write("x", "real")
    (folder.path / "link").symlink_to("real")

    assert unpacked(folder.load(SMALL + "files: [link]\n")) == {"link": (b"x", 0o644)}


def test_files_of_more_than_50_mib_are_refused(folder: Folder) -> None:
    with folder.write("", "big").open("wb") as big:
        big.truncate(51 * 1024 * 1024)

    (got,) = folder.problems(SMALL + "files: [big]\n")

    assert (
        got == "3:9: files: 51 MiB together, 50 MiB are allowed: keep large inputs in S3 and fetch them in the command"
    )


def test_missing_files_show_beside_other_problems(folder: Folder) -> None:
    got = folder.problems("name: Bad\ncommand: x\nfiles: [nope]\n")

    assert [problem.split(":")[0] for problem in got] == ["1", "3"]


def paths_in(node: dict[str, Any], definitions: dict[str, Any], path: str = "") -> set[str]:
    node = {**definitions.get(node.get("$ref", "").rpartition("/")[2], {}), **node}
    found = {path} if path else set()
    for key, value in node.get("properties", {}).items():
        found |= paths_in(value, definitions, f"{path}.{key}" if path else key)
    return found


def test_the_documentation_and_the_schema_list_the_same_fields() -> None:
    page = (ROOT / "docs" / "job-file.md").read_text()
    generated = schema()

    documented = re.findall(r"^\| `([a-z_.]+)` \|", page, re.MULTILINE)

    assert len(documented) == len(set(documented))
    assert set(documented) == paths_in(generated, generated["$defs"])


def test_the_example_of_the_documentation_is_a_job(folder: Folder) -> None:
    example = re.search(r"```yaml\n(.*?)```", (ROOT / "docs" / "job-file.md").read_text(), re.DOTALL)
    assert example is not None
    folder.write("", "report.py")
    folder.write("", "queries/a.sql")

    assert folder.load(example[1]).warnings == ()


def test_the_schema_accepts_what_we_accept_and_has_no_null() -> None:
    generated = schema()
    full = {
        "name": "a",
        "command": "x",
        "schedule": {"cron": "0 2 * * *", "start_within": "1h"},
        "env": {"A": 1, "B": "x", "C": True},
        "compute": {"instance_types": ["m7g.large"], "disk": "30GiB", "capacity_type": "spot"},
        "timeout": "1h30m",
        "retry": {"backoff": {"initial": "30s"}},
    }

    jsonschema.Draft202012Validator.check_schema(generated)
    jsonschema.validate(full, generated)
    assert "null" not in json.dumps(generated)
    for wrong in ({"timeout": 5}, {"x": 1}, {"name": "A"}, {"compute": {"disk": 30}}, {"on_finish": "explode"}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**full, **wrong}, generated)


def test_the_domain_loads_without_pydantic_and_yaml() -> None:
    modules = "nightcrew.domain.job, nightcrew.domain.schedule, nightcrew_cli"
    code = f"import sys, {modules}; print({{'pydantic', 'ruamel.yaml'}} & set(sys.modules))"

    printed = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout

    assert printed.strip() == "set()"
