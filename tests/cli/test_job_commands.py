"""validate, plan, apply and jobs: from files to the stack, only what differs, and nothing without being told."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from nightcrew.domain.job import JobSchedule
from nightcrew.usecases.errors import LaunchInputError
from nightcrew.usecases.operate import Change, OperatorError, desired_schedule, field_changes
from nightcrew_cli.exits import ExitCode
from nightcrew_cli.failures import CommandError
from tests.builders import NOW, make_job, make_run
from tests.cli.stage import TARGET, Stage

Compare = Callable[[str, str], None]
JOB = """\
name: small
command: python3 report.py
files: [report.py]
schedule: {cron: "30 2 * * *", timezone: Europe/Berlin}
compute: {image: al2023, instance_types: [m7g.large, c7g.4xlarge], capacity_type: spot-then-on-demand}
timeout: 1h
deadline: 5h
"""


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "report.py").write_text("print('hello')\n")
    path = tmp_path / "jobs" / "small.yaml"
    path.parent.mkdir()
    (path.parent / "report.py").write_text("print('hello')\n")
    path.write_text(JOB)
    return path


def test_validate_reads_the_folder_jobs_and_needs_no_stack(stage: Stage, file: Path) -> None:
    result = stage("validate")

    assert (result.exit_code, result.stdout) == (0, "✔ small  jobs/small.yaml\n")
    assert stage.options is None


def test_validate_prints_every_problem_with_its_place(stage: Stage, file: Path) -> None:
    file.write_text("name: small\ncommand: x\ntimeuot: 1h\ncompute: {disk: 30}\n")

    result = stage("validate", "jobs/small.yaml")

    assert result.exit_code == ExitCode.USAGE
    assert result.stderr.splitlines() == [
        "error: jobs/small.yaml:3:1: unknown key 'timeuot', did you mean 'timeout'?",
        "error: jobs/small.yaml:4:17: compute.disk: 30 has no unit: write 30GiB",
        "2 problems; nothing was changed",
    ]


def test_validate_as_json_has_the_places_as_numbers(stage: Stage, file: Path) -> None:
    file.write_text("name: small\n")

    problems = json.loads(stage("validate", "-o", "json").stdout)

    assert [(it["severity"], it["line"], it["column"]) for it in problems] == [("error", 1, 1)]


def test_without_files_or_a_folder_jobs_validate_is_wrong_usage(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    assert stage("validate").exit_code == ExitCode.USAGE


def test_schema_is_json_schema(stage: Stage) -> None:
    assert json.loads(stage("schema").stdout)["title"] == "Nightcrew job"


def test_apply_writes_files_then_record_then_schedule(stage: Stage, file: Path) -> None:
    result = stage("apply")

    assert (result.exit_code, stage.log) == (0, ["files", "record small", "schedule small"])
    assert result.stdout == "+ small: create\napplied: 1 to create\n"


def test_a_second_apply_changes_nothing(stage: Stage, file: Path) -> None:
    stage("apply")
    stage.log.clear()

    result = stage("apply")

    assert (stage.log, result.stdout) == ([], "= small: unchanged\nnothing to do: 1 unchanged\n")


def test_apply_shows_each_value_that_differs(stage: Stage, file: Path) -> None:
    stage("apply")
    file.write_text(JOB.replace("5h", "6h").replace("30 2 * * *", "30 3 * * *"))
    stage.log.clear()

    result = stage("apply")

    assert result.stdout.splitlines() == [
        "~ small: update",
        '    schedule.expressions: ["cron(30 2 * * ? *)"] → ["cron(30 3 * * ? *)"]',
        "    deadline: 18000 → 21600",
        "applied: 1 to update",
    ]
    assert stage.log == ["record small", "schedule small"]


def test_a_schedule_that_was_changed_by_hand_is_put_right_and_the_record_left(stage: Stage, file: Path) -> None:
    stage("apply")
    stage.schedules.kept.clear()
    stage.log.clear()

    result = stage("apply")

    assert stage.log == ["schedule small"]
    assert "schedule: create (it differs from what was applied)" in result.stdout


def test_a_job_that_loses_its_schedule_loses_it_on_the_stack(stage: Stage, file: Path) -> None:
    stage("apply")
    file.write_text("\n".join(line for line in JOB.splitlines() if not line.startswith("schedule")))
    stage.log.clear()

    stage("apply")

    assert stage.log == ["record small", "remove schedule small"]


def test_prune_without_somebody_to_ask_needs_yes_and_changes_nothing(stage: Stage, file: Path) -> None:
    stage.jobs.applied["old"] = make_job(name="old")

    result = stage("apply", "--prune")

    assert (result.exit_code, stage.log) == (ExitCode.USAGE, [])
    assert "1 job will be taken off: old" in result.stderr
    assert "add --yes" in result.stderr


def test_prune_takes_off_the_schedule_before_the_record(stage: Stage, file: Path) -> None:
    stage.jobs.applied["old"] = make_job(name="old")

    result = stage("apply", "--prune", "--yes")

    assert stage.log[-2:] == ["remove schedule old", "remove record old"]
    assert "- old: remove" in result.stdout


def test_an_invalid_file_among_valid_ones_stops_apply_before_anything(stage: Stage, file: Path) -> None:
    (file.parent / "broken.yaml").write_text("name: [\n")

    result = stage("apply")

    assert (result.exit_code, stage.log) == (ExitCode.USAGE, [])


@pytest.mark.parametrize(
    ("start_within", "age"),
    [(timedelta(seconds=1), 60), (timedelta(minutes=30), 1800), (timedelta(days=2), 86_400)],
)
def test_the_schedule_delivers_as_long_as_the_job_may_start_late(start_within: timedelta, age: int) -> None:
    schedule = JobSchedule(expressions=("rate(1 day)",), timezone="UTC", enabled=False, start_within=start_within)
    job = make_job(schedule=schedule)

    record = desired_schedule(job, TARGET)

    assert record is not None
    assert (record.longest_event_age, record.is_enabled, record.target) == (age, False, "arn:launcher")
    assert json.loads(record.payload) == {
        "job": "nightly-report",
        "revision": job.revision,
        "scheduled_time": "<aws.scheduler.scheduled-time>",
    }


def test_two_expressions_in_one_job_are_refused() -> None:
    with pytest.raises(OperatorError, match="2 schedule expressions"):
        desired_schedule(make_job(schedule=JobSchedule(expressions=("rate(1 day)", "rate(2 days)"))), TARGET)


def test_field_changes_name_what_comes_and_goes() -> None:
    changes = field_changes({"a": {"b": 1}, "gone": "x", "empty": []}, {"a": {"b": 2}, "new": True, "empty": []})

    assert [(it.path, it.before, it.after) for it in changes] == [
        ("a.b", "1", "2"),
        ("new", None, "true"),
        ("gone", "x", None),
    ]


def test_plan_offline_shows_the_launch_with_placeholders_and_says_so(
    stage: Stage, file: Path, snapshot_of: Compare, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = stage("plan", "--offline", "--ticks", "2", AWS_REGION="eu-west-1")

    assert result.exit_code == 0
    snapshot_of("plan_offline", result.stdout)


def test_plan_shows_the_very_request_of_the_launcher(stage: Stage, file: Path, snapshot_of: Compare) -> None:
    stage("apply")

    result = stage("plan", "--ticks", "1")

    assert result.exit_code == 0
    snapshot_of("plan", result.stdout)


def test_plan_as_json_holds_requests_and_never_a_launch_id(stage: Stage, file: Path) -> None:
    [plan] = json.loads(stage("plan", "-o", "json").stdout)

    assert [step["step"]["capacity_type"] for step in plan["launch"]] == ["spot", "on-demand"]
    assert {step["launch"] for step in plan["launch"]} == {"(drawn for each run)"}
    assert plan["launch"][0]["client_token"] != plan["launch"][1]["client_token"]
    assert plan["estimated_cost"]["per_hour"]["m7g.large"] == pytest.approx(0.09095)


@pytest.mark.parametrize(("applied", "code"), [(False, ExitCode.DIFFERENCES), (True, ExitCode.OK)])
def test_detailed_exitcode_tells_whether_something_would_change(
    stage: Stage, file: Path, applied: bool, code: ExitCode
) -> None:
    if applied:
        stage("apply")

    assert stage("plan", "--detailed-exitcode").exit_code == code


def test_plan_without_a_stack_goes_on_and_says_why(stage: Stage, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise CommandError("there is no stack", "sam deploy")

    monkeypatch.setattr("nightcrew_cli.session.connect", refuse)

    usual, detailed = stage("plan"), stage("plan", "--detailed-exitcode")

    assert (usual.exit_code, detailed.exit_code) == (0, ExitCode.ERROR)
    assert usual.stderr.startswith("offline: there is no stack\n  sam deploy\n")
    assert "not compared" in usual.stdout


def test_plan_shows_what_the_launcher_would_refuse(stage: Stage, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(image: str) -> None:
        raise LaunchInputError("image ami-1: does not exist")

    monkeypatch.setattr(stage.launch_inputs, "image", refuse)

    assert "✘ the launcher would refuse it: image ami-1: does not exist" in stage("plan").stdout


def test_an_unknown_price_is_unknown(stage: Stage, file: Path) -> None:
    file.write_text(JOB.replace("m7g.large, c7g.4xlarge", "x9zz.large"))

    [plan] = json.loads(stage("plan", "-o", "json").stdout)

    assert plan["estimated_cost"]["per_hour"] == {"x9zz.large": None}
    assert {run["highest"] for run in plan["estimated_cost"]["runs"]} == {None}


def test_jobs_list_shows_schedule_next_tick_and_last_run(stage: Stage, file: Path, snapshot_of: Compare) -> None:
    stage("apply")
    stage.jobs.applied["by-hand"] = make_job(name="by-hand")
    stage.runs.add(make_run(make_job(name="by-hand")))

    snapshot_of("jobs_list", stage("jobs", "list").stdout)


def test_jobs_next_counts_a_rate_from_its_schedule(stage: Stage, file: Path) -> None:
    file.write_text(JOB.replace('cron: "30 2 * * *", timezone: Europe/Berlin', "every: 6h"))
    stage("apply")
    unknown = json.loads(stage("jobs", "next", "-o", "json").stdout)
    created = NOW - timedelta(hours=1)
    object.__setattr__(stage.schedules.kept["small"], "created_at", created)

    known = json.loads(stage("jobs", "next", "small", "-n", "2", "-o", "json").stdout)

    assert unknown == []
    assert [it["tick"] for it in known] == ["2026-01-16T07:30:00+00:00", "2026-01-16T13:30:00+00:00"]


def test_jobs_next_warns_of_clock_changes(stage: Stage, file: Path) -> None:
    stage("apply")

    assert "! 2026-03-29 02:30 does not exist in Europe/Berlin: no run" in stage("jobs", "next", "small").stderr


def test_jobs_remove_needs_yes_where_nobody_can_answer(stage: Stage, file: Path) -> None:
    stage("apply")
    stage.log.clear()

    refused, done = stage("jobs", "remove", "small"), stage("jobs", "remove", "small", "--yes")

    assert (refused.exit_code, done.exit_code) == (ExitCode.USAGE, 0)
    assert stage.log == ["remove schedule small", "remove record small"]


def test_an_unknown_job_is_102(stage: Stage) -> None:
    stage.jobs.applied["nightly-report"] = make_job()

    result = stage("jobs", "show", "nightly-rapport")

    assert result.exit_code == ExitCode.NOT_FOUND
    assert "did you mean nightly-report?" in result.stderr


def test_nothing_a_job_calls_itself_is_markup(stage: Stage) -> None:
    stage.jobs.applied["x"] = make_job(name="x", description="[red]not[/red] \x1b[31mred", owner="[link=x]me[/link]")

    page = stage("jobs", "show", "x").stdout

    assert "[red]not[/red]  [31mred" in page
    assert "\x1b" not in page


def test_change_words_are_what_the_json_says(stage: Stage, file: Path) -> None:
    [told] = json.loads(stage("apply", "-o", "json").stdout)

    assert (told["change"], told["record"], told["schedule"]) == (Change.CREATE, Change.CREATE, Change.CREATE)
