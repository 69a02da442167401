"""What becomes of an attempt: real runs of the user data, with everything it calls on this side of a socket."""

import hashlib
import io
import json
import tarfile
from pathlib import Path

import pytest

from tests.worker.cloud import INSTANCE, PREFIX, Cloud, Machine, later


def archive(cloud: Cloud, files: dict[str, bytes]) -> dict[str, str]:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, body in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(body), 0o755
            tar.addfile(member, io.BytesIO(body))
    digest = hashlib.sha256(packed.getvalue()).hexdigest()
    key = f"files/{digest}.tar.gz"
    cloud.objects[key] = packed.getvalue()
    return {"key": key, "sha256": digest}


def is_alive(pid: int) -> bool:
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] not in "ZX"


PYTHONS = sorted(Path.home().glob(".pyenv/versions/*/bin/python3"))
OLDEST_AND_NEWEST = [
    next((python for python in PYTHONS if f"/{minor}." in str(python)), None) for minor in ("3.9", "3.13")
]


@pytest.mark.parametrize("python", [None, *filter(None, OLDEST_AND_NEWEST)], ids=str)
def test_a_run_leaves_its_log_its_outputs_and_its_result(cloud: Cloud, machine: Machine, python: Path | None) -> None:
    if python:
        machine.python = str(python)
    cloud.write_roster(
        files=archive(cloud, {"main.sh": b"#!/bin/sh\necho made by $NIGHTCREW_JOB\n"}),
        env={"GREETING": "good morning"},
        command='echo "$GREETING"\nmkdir "$NIGHTCREW_OUTPUT_DIR/a"\n./main.sh > "$NIGHTCREW_OUTPUT_DIR/a/report.html"',
    )

    machine.run()

    result = cloud.result()
    times = [result.pop(name) for name in ("booted_at", "started_at", "ended_at")]
    assert times == sorted(times)
    assert result == {
        "version": 1,
        "run": "nightly@1",
        "attempt": 1,
        "launch": "launch-f00d",
        "instance_id": INSTANCE,
        "task": 0,
        "outcome": "succeeded",
        "exit_code": 0,
        "signal": None,
        "message": "command exited with 0",
        "outputs": [{"path": "a/report.html", "bytes": 16}],
        "log_parts": 1,
    }
    assert cloud.outputs() == {"a/report.html": b"made by nightly\n"}
    assert cloud.content_types[PREFIX + "outputs/a/report.html"] == "text/html"
    lines = cloud.log().splitlines()
    assert "good morning" in lines
    own = [line.split(" ", 2)[2].split(" (after")[0] for line in lines if line.startswith("[nightcrew] ")]
    assert [line.split(":")[0] for line in own] == [
        f"worker {INSTANCE} is up",
        "files unpacked",
        "starting the command",
        "command exited with 0",
        "outputs uploaded",
        "succeeded",
    ]
    writes = [request for request in cloud.requests if "/exchange/workers/" in request]
    assert writes[-1] == f"PUT /exchange/{PREFIX}result.json"
    assert machine.shutdowns[-1] == "-P now"


def test_the_command_sees_the_promised_environment_and_no_more(cloud: Cloud, machine: Machine) -> None:
    cloud.write_roster(
        command='env -0 > "$NIGHTCREW_OUTPUT_DIR/env"; cat; pwd', env={"A": "two\nlines", "LANG": "de_DE"}
    )

    machine.run()

    env = dict(line.split("=", 1) for line in cloud.outputs()["env"].decode().split("\0") if line)
    env = {name: value for name, value in env.items() if name not in ("_", "SHLVL", "PWD", "OLDPWD")}
    home = machine.root / "home" / "launch-f00d"
    assert env.pop("PATH").startswith(str(machine.root / "bin"))
    assert env.pop("NIGHTCREW_DEADLINE") == json.loads(cloud.objects["launches/launch-f00d/roster.json"])["deadline"]
    assert env == {
        "HOME": "/root",
        "LANG": "de_DE",
        "A": "two\nlines",
        "AWS_REGION": "eu-central-1",
        "AWS_DEFAULT_REGION": "eu-central-1",
        "AWS_ENDPOINT_URL": cloud.endpoint,
        "AWS_EC2_METADATA_SERVICE_ENDPOINT": cloud.endpoint + "/imds",
        "NIGHTCREW_RUN_ID": "nightly@1",
        "NIGHTCREW_JOB": "nightly",
        "NIGHTCREW_ATTEMPT": "1",
        "NIGHTCREW_SCHEDULED_TIME": "2026-11-22T23:00:00Z",
        "NIGHTCREW_SCHEDULED_DATE": "2026-11-22",
        "NIGHTCREW_OUTPUT_DIR": str(home / "outputs"),
        "NIGHTCREW_TASK_INDEX": "0",
        "NIGHTCREW_INSTANCE_ID": INSTANCE,
    }
    assert str(home / "work") in cloud.log().splitlines()


@pytest.mark.parametrize(
    ("command", "exit_code", "signal", "message"),
    [
        pytest.param("exit 3", 3, None, "command exited with 3", id="an exit code"),
        pytest.param("echo a\nfalse\necho never", 1, None, "command exited with 1", id="the first line that fails"),
        pytest.param("false | cat", 1, None, "command exited with 1", id="a pipe that fails in front"),
        pytest.param("kill -SEGV $$", 139, 11, "command was killed by SIGSEGV", id="a signal"),
        pytest.param("kill -9 $$", 137, 9, "command was killed by SIGKILL (out of memory?)", id="perhaps no memory"),
        pytest.param(
            "bash -c 'kill -9 $$'\ntrue",
            137,
            None,
            "command exited with 137: SIGKILL (out of memory?)",
            id="a signal to a program of the script",
        ),
        pytest.param("kill $$", 143, 15, "command was killed by SIGTERM", id="a SIGTERM that only the command got"),
        pytest.param("nosuchprogram", 127, None, "command exited with 127", id="an unknown program"),
    ],
)
def test_a_failure_says_how_the_command_ended(
    cloud: Cloud, machine: Machine, command: str, exit_code: int, signal: int | None, message: str
) -> None:
    cloud.write_roster(command=command)

    machine.run()

    result = cloud.result()
    assert (result["outcome"], result["exit_code"], result["signal"], result["message"]) == (
        "failed",
        exit_code,
        signal,
        message,
    )
    assert "never" not in cloud.log()
    assert machine.has_powered_off


def test_a_timeout_ends_the_command_and_keeps_its_outputs(cloud: Cloud, machine: Machine) -> None:
    cloud.write_roster(
        timeout=2, command='echo half > "$NIGHTCREW_OUTPUT_DIR/half"; trap "echo saved; exit 0" TERM; sleep 100 & wait'
    )

    machine.run()

    result = cloud.result()
    assert (result["outcome"], result["message"], result["exit_code"]) == ("timed_out", "timed out after 2 s", 0)
    assert "saved" in cloud.log()
    assert cloud.outputs() == {"half": b"half\n"}
    assert machine.has_powered_off


def test_a_command_that_ignores_sigterm_is_killed(cloud: Cloud, machine: Machine) -> None:
    cloud.write_roster(timeout=0.5, command="trap '' TERM; while true; do sleep 0.1; done")

    machine.run()

    result = cloud.result()
    assert (result["outcome"], result["exit_code"], result["signal"]) == ("timed_out", 137, 9)


def test_what_the_command_leaves_behind_is_ended(cloud: Cloud, machine: Machine) -> None:
    # One in its group, one that got away into a session of its own, one that will not listen.
    cloud.write_roster(
        command="sleep 100 & echo $!\n"
        "setsid bash -c 'echo $$ >two; exec sleep 100' &\n"
        "setsid bash -c 'trap \"\" TERM; echo $$ >three; while true; do sleep 1; done' &\n"
        "until [ -s two ] && [ -s three ]; do sleep 0.05; done; cat two three\n"
        "exec >&- 2>&-; exit 0"
    )

    machine.run()

    pids = [int(line) for line in cloud.log().splitlines() if line.isdigit()]
    assert len(pids) == 3
    assert not [pid for pid in pids if is_alive(pid)]
    assert cloud.result()["outcome"] == "succeeded"


def test_the_deadline_ends_the_command_in_time_for_its_outputs(cloud: Cloud, machine: Machine) -> None:
    cloud.write_roster(deadline=later(seconds=9), command='touch "$NIGHTCREW_OUTPUT_DIR/a"; sleep 100')

    machine.run()

    result = cloud.result()
    assert (result["outcome"], result["exit_code"]) == ("deadline_exceeded", 143)
    assert cloud.outputs() == {"a": b""}


def test_a_run_that_is_too_late_does_not_start_its_command(cloud: Cloud, machine: Machine) -> None:
    cloud.write_roster(deadline=later(seconds=3), command="echo started")

    machine.run()

    result = cloud.result()
    assert (result["outcome"], result["started_at"], result["exit_code"]) == ("deadline_exceeded", None, None)


def test_a_spot_interruption_saves_what_there_is_and_leaves_the_end_to_ec2(cloud: Cloud, machine: Machine) -> None:
    cloud.write_roster(command='echo 1 > "$NIGHTCREW_OUTPUT_DIR/checkpoint"; echo ready; sleep 100')
    machine.boot()
    cloud.wait_for(lambda: "ready" in cloud.log())

    cloud.metadata["spot/instance-action"] = json.dumps({"action": "terminate", "time": later(minutes=2)})
    machine.wait()

    result = cloud.result()
    assert result["outcome"] == "interrupted"
    assert result["message"].startswith("Spot interruption: EC2 announced terminate at 20")
    assert cloud.outputs() == {"checkpoint": b"1\n"}
    assert not machine.has_powered_off


def test_a_shutdown_by_others_is_an_interruption(cloud: Cloud, machine: Machine) -> None:
    cloud.write_roster(command="echo ready; sleep 100")
    machine.boot()
    cloud.wait_for(lambda: "ready" in cloud.log())

    machine.terminate()
    machine.wait()

    result = cloud.result()
    assert (result["outcome"], result["message"]) == ("interrupted", "the machine is being shut down (SIGTERM)")


def test_a_shutdown_that_reaches_the_command_first_is_an_interruption(cloud: Cloud, machine: Machine) -> None:
    cloud.write_roster(fast="TERM_ECHO = 20.0\n", command="echo ready; kill $$")
    machine.boot()
    cloud.wait_for(lambda: "ready" in cloud.log())

    machine.terminate()
    machine.wait()

    assert cloud.result()["outcome"] == "interrupted"


def test_a_job_that_stops_its_machine_leaves_that_to_the_control_plane(cloud: Cloud, machine: Machine) -> None:
    cloud.write_roster(on_finish="stop")

    machine.run()

    assert cloud.result()["outcome"] == "succeeded"
    assert not machine.has_powered_off
    assert machine.shutdowns[-1] in ("-P +122", "-P +123")


def test_a_machine_without_a_written_result_is_not_left_running(cloud: Cloud, machine: Machine) -> None:
    cloud.trouble("PUT", "result.json", status=403, code="AccessDenied")
    cloud.write_roster(on_finish="stop", fast="RESULT_PATIENCE, HEARTBEAT = 0.5, 0.1\n")

    machine.run()

    assert machine.has_powered_off
    assert "the result could not be written: AccessDenied (403)" in machine.console


def test_the_result_is_written_again_until_it_is_there(cloud: Cloud, machine: Machine) -> None:
    cloud.trouble("PUT", "result.json", status=0, times=1)
    cloud.trouble("PUT", "result.json", status=503, code="SlowDown", times=1)
    cloud.trouble("PUT", "result.json", status=403, code="AccessDenied", times=1)
    cloud.write_roster()

    machine.run()

    assert cloud.result()["outcome"] == "succeeded"
    assert cloud.count(f"PUT /exchange/{PREFIX}result.json") == 4


def test_an_output_that_is_lost_turns_success_into_failure(cloud: Cloud, machine: Machine) -> None:
    cloud.trouble("PUT", "outputs/lost", status=403, code="AccessDenied")
    cloud.write_roster(command='cd "$NIGHTCREW_OUTPUT_DIR"; touch kept lost')

    machine.run()

    result = cloud.result()
    assert (result["outcome"], result["exit_code"]) == ("failed", 0)
    assert result["message"] == ("command exited with 0; outputs that were not uploaded: 1 (lost: AccessDenied (403))")
    assert result["outputs"] == [{"path": "kept", "bytes": 0}]


def test_outputs_have_odd_names_and_links(cloud: Cloud, machine: Machine) -> None:
    cloud.write_roster(
        command='cd "$NIGHTCREW_OUTPUT_DIR"; echo x > "a: b+c&d=é#?%.txt"; echo y > $\'new\\nline\'; '
        "echo z > $'\\xff'; ln -s /etc/passwd out; ln -s $'\\xff' in; ln -s / root; mkfifo p; "
        "ln -s gone dangling; mkdir -p deep/empty"
    )

    machine.run()

    assert cloud.outputs() == {"a: b+c&d=é#?%.txt": b"x\n", "new\\x0aline": b"y\n", "\\xff": b"z\n", "in": b"z\n"}
    assert cloud.result()["outcome"] == "succeeded"
    skipped = [line.split("skipped: ")[1] for line in cloud.log().splitlines() if "skipped: " in line]
    assert sorted(skipped) == [
        "dangling: No such file or directory",
        "out: a link that leads out of the output directory",
        "p: not a regular file",
        "root: a link to a directory",
    ]


def test_too_many_outputs_are_a_failure_with_a_reason(cloud: Cloud, machine: Machine) -> None:
    cloud.write_roster(fast="OUTPUT_FILES = 2\n", command='cd "$NIGHTCREW_OUTPUT_DIR"; touch a b c')

    machine.run()

    assert sorted(cloud.outputs()) == ["a", "b"]
    assert cloud.result()["outcome"] == "failed"
    assert "c: over the limit of 2 files" in cloud.result()["message"]


def test_a_large_output_goes_in_parts(cloud: Cloud, machine: Machine) -> None:
    cloud.write_roster(
        fast="PART = 1000\n", command='head -c 4500 /dev/zero | tr "\\0" "x" > "$NIGHTCREW_OUTPUT_DIR/big file.csv"'
    )

    machine.run()

    assert cloud.outputs() == {"big file.csv": b"x" * 4500}
    assert cloud.content_types[PREFIX + "outputs/big file.csv"] == "text/csv"
    assert sum(1 for request in cloud.requests if "partNumber" in request) == 5
    assert cloud.uploads == {}


def test_a_large_output_that_fails_leaves_no_parts(cloud: Cloud, machine: Machine) -> None:
    cloud.trouble("PUT", "partNumber=3", status=400, code="NoSuchUpload")
    cloud.write_roster(fast="PART = 1000\n", command='head -c 4500 /dev/zero > "$NIGHTCREW_OUTPUT_DIR/big"')

    machine.run()

    assert cloud.result()["outcome"] == "failed"
    assert cloud.uploads == {}


@pytest.mark.parametrize("damage", ["missing", "damaged", "no archive"])
def test_files_that_cannot_be_unpacked_are_told_in_the_result(cloud: Cloud, machine: Machine, damage: str) -> None:
    files = archive(cloud, {"a": b"a"})
    if damage == "missing":
        del cloud.objects[files["key"]]
    elif damage == "damaged":
        cloud.objects[files["key"]] += b"x"
    else:
        cloud.objects[files["key"]] = b"text"
        files["sha256"] = hashlib.sha256(b"text").hexdigest()
    cloud.write_roster(files=files, command="echo started")

    machine.run()

    result = cloud.result()
    assert (result["outcome"], result["started_at"], result["exit_code"]) == ("start_failed", None, None)
    assert result["message"].startswith("could not start: ")
    assert machine.has_powered_off


@pytest.mark.parametrize("command", ["echo \0", "#" * 200_000], ids=["null", "long"])
def test_a_command_that_cannot_be_started_is_told_in_the_result(cloud: Cloud, machine: Machine, command: str) -> None:
    cloud.write_roster(command=command)

    machine.run()

    assert cloud.result()["outcome"] == "start_failed"


def test_the_log_grows_in_parts_and_is_sent_again_as_a_sign_of_life(cloud: Cloud, machine: Machine) -> None:
    cloud.write_roster(
        fast="LOG_PART, LOG_PART_MAX, EARLY = 100, 1000, 0.0\n",
        command='printf "no end of line"; sleep 1; seq 1 300; sleep 100',
        timeout=3,
    )
    machine.boot()
    first = f"PUT /exchange/{PREFIX}log/00001.txt"

    cloud.wait_for(lambda: cloud.count(first) >= 3)
    machine.wait()

    parts = cloud.result()["log_parts"]
    assert parts == len([key for key in cloud.objects if key.startswith(PREFIX + "log/")]) > 2
    text = cloud.log()
    assert "no end of line1\n2\n3\n" in text
    assert "\n299\n300\n" in text


def test_a_log_that_cannot_be_sent_does_not_disturb_the_work(cloud: Cloud, machine: Machine) -> None:
    cloud.trouble("PUT", "/log/", status=503)
    cloud.write_roster(command='touch "$NIGHTCREW_OUTPUT_DIR/a"')

    machine.run()

    result = cloud.result()
    assert (result["outcome"], result["log_parts"], len(result["outputs"])) == ("succeeded", 0, 1)


def test_a_talkative_command_is_neither_slowed_down_nor_stored_in_full(cloud: Cloud, machine: Machine) -> None:
    cloud.write_roster(
        fast="LOG_HEAD, LOG_TAIL, LOG_PART, LOG_PART_MAX = 100_000, 50_000, 20_000, 30_000\n",
        command="seq 1 2000000; echo the end",
    )

    machine.run()

    lines = cloud.log().splitlines()
    assert lines.count("1") == lines.count("2000000") == lines.count("the end") == 1
    assert len(cloud.log()) < 250_000
    assert any("the log has reached 97.7 KiB" in line for line in lines)
    assert any(line.endswith("are left out here") for line in lines)
    assert all(line.isdigit() or line == "the end" or line.startswith("[nightcrew] ") for line in lines)
    assert cloud.result()["outcome"] == "succeeded"


def test_an_error_of_the_worker_itself_is_told_in_the_result(cloud: Cloud, machine: Machine) -> None:
    cloud.write_roster(fast="def find_outputs(root): raise RuntimeError('oops')\n")

    machine.run()

    result = cloud.result()
    assert (result["outcome"], result["message"]) == ("failed", "the worker itself failed: RuntimeError: oops")
    assert machine.has_powered_off


def test_a_machine_without_room_for_the_work_is_told_in_the_result(cloud: Cloud, machine: Machine) -> None:
    (machine.root / "file").touch()
    machine.env["NIGHTCREW_HOME"] = str(machine.root / "file")
    cloud.write_roster()

    machine.run()

    assert cloud.result()["outcome"] == "start_failed"
    assert "Not a directory" in cloud.result()["message"]
