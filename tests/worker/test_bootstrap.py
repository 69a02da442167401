"""The life of a worker up to the moment when it knows its job, and the ends it comes to when it does not."""

import json

import pytest

from nightcrew.worker import bootstrap
from tests.worker.cloud import ROSTER_KEY, Cloud, Machine, later

GET_ROSTER = f"GET /exchange/{ROSTER_KEY}"


def test_the_timer_is_armed_before_anything_can_hang_and_then_set_to_the_deadline(
    cloud: Cloud, machine: Machine
) -> None:
    cloud.write_roster()

    machine.run()

    short, deadline, end = machine.shutdowns
    assert (short, end) == (f"-P +{bootstrap.SHORT_LIFE}", "-P now")
    assert deadline in ("-P +122", "-P +123")


def test_a_deadline_beyond_the_ceiling_does_not_lengthen_the_life(cloud: Cloud, machine: Machine) -> None:
    cloud.tag(deadline="2099-01-01T00:00:00Z")
    cloud.write_roster()

    machine.run()

    assert machine.shutdowns == ["-P +15", "-P +6000", "-P now"]


@pytest.mark.parametrize("deadline", ["", "soon", "2026-11-23", "99999999999"])
def test_a_garbled_deadline_means_a_short_life(cloud: Cloud, machine: Machine, deadline: str) -> None:
    cloud.tag(deadline=deadline)
    cloud.write_roster()

    machine.run()

    assert machine.shutdowns == ["-P +15", "-P now"]
    assert cloud.result()["outcome"] == "succeeded"


def test_a_garbled_deadline_ends_the_command_with_the_short_life(cloud: Cloud, machine: Machine) -> None:
    cloud.tag(deadline="garbled")
    # Less than 15 minutes remain, and that much is kept for the outputs.
    cloud.write_roster(command="sleep 100", fast="DEADLINE_SHARE, DEADLINE_RESERVE = 1.0, (0.0, 9e9)\n")

    machine.run()

    assert cloud.result()["outcome"] == "deadline_exceeded"


def test_a_worker_past_its_deadline_powers_off_at_once(cloud: Cloud, machine: Machine) -> None:
    cloud.tag(deadline=later(seconds=-1))
    cloud.write_roster()

    machine.run()

    assert machine.shutdowns == ["-P +15", "-P now"]
    assert cloud.count(GET_ROSTER) == 0
    assert "its deadline has passed" in machine.console


def test_a_worker_without_metadata_powers_off(cloud: Cloud, machine: Machine) -> None:
    machine.env["AWS_EC2_METADATA_SERVICE_ENDPOINT"] = "http://127.0.0.1:1"
    quick = machine.user_data().replace("tries: int = 8", "tries: int = 2")

    machine.boot(quick)
    machine.wait()

    assert machine.shutdowns == ["-P +15", "-P now"]
    assert "instance metadata tags/instance/nightcrew:deadline" in machine.console


def test_a_worker_without_a_roster_powers_off(cloud: Cloud, machine: Machine) -> None:
    machine.env["NIGHTCREW_ROSTER_WAIT"] = "0.5"

    machine.run()

    assert machine.has_powered_off
    assert cloud.count(GET_ROSTER) > 2
    assert "no roster within 0 s: HTTP Error 403" in machine.console


def test_a_worker_waits_for_a_late_roster(cloud: Cloud, machine: Machine) -> None:
    machine.boot()
    cloud.wait_for(lambda: cloud.count(GET_ROSTER) >= 3)

    cloud.write_roster()
    machine.wait()

    assert cloud.result()["outcome"] == "succeeded"


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"tasks": {"i-other": 0}}, "the roster has no task for this worker"),
        ({"run": "nightly@2"}, "the roster is for run nightly@2, this worker for nightly@1"),
        ({"attempt": 2}, "the roster is for attempt 2, this worker for 1"),
        ({"launch": "other"}, "the roster is for launch other"),
        ({"program": "def run("}, "SyntaxError"),
        ({"program": "def run(worker): raise SystemExit(0)"}, "SystemExit"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_worker_that_cannot_trust_its_roster_powers_off(
    cloud: Cloud, machine: Machine, changes: dict[str, object], why: str
) -> None:
    cloud.write_roster(**changes)

    machine.run()

    assert machine.shutdowns[-1] == "-P now"
    assert why in machine.console


def test_a_roster_that_is_no_json_ends_the_worker(cloud: Cloud, machine: Machine) -> None:
    cloud.objects[ROSTER_KEY] = b"{"

    machine.run()

    assert machine.has_powered_off


def test_a_worker_without_tags_powers_off(cloud: Cloud, machine: Machine) -> None:
    del cloud.metadata["tags/instance/nightcrew:launch"]

    machine.run()

    assert machine.has_powered_off
    assert "its tags are not in the instance metadata" in machine.console


def test_a_bucket_that_cannot_be_reached_at_first_is_tried_again(cloud: Cloud, machine: Machine) -> None:
    cloud.trouble("GET", ROSTER_KEY, status=0, times=2)
    cloud.trouble("GET", ROSTER_KEY, status=503, code="SlowDown", times=2)
    cloud.trouble("PUT", "/log/", status=500, times=1)
    cloud.write_roster()

    machine.run()

    assert cloud.result()["outcome"] == "succeeded"


def test_metadata_that_fails_at_first_is_tried_again(cloud: Cloud, machine: Machine) -> None:
    cloud.trouble("PUT", "api/token", status=0, times=1)
    cloud.trouble("GET", "instance-id", status=401, times=1)
    cloud.trouble("GET", "security-credentials/", status=404, times=1)
    cloud.write_roster()

    machine.run()

    assert cloud.result()["outcome"] == "succeeded"
    assert cloud.count("PUT /imds/latest/api/token") == 3


@pytest.mark.parametrize(
    ("hours", "metadata_tells_time"),
    [
        pytest.param(5, True, id="behind"),
        pytest.param(5, False, id="behind, and known from S3 only"),
        pytest.param(-5, True, id="ahead"),
    ],
)
def test_a_wrong_clock_is_set_right_by_the_answers(
    cloud: Cloud, machine: Machine, hours: int, metadata_tells_time: bool
) -> None:
    cloud.skew, cloud.metadata_tells_time = hours * 3600, metadata_tells_time
    cloud.tag(deadline=later(hours=hours + 1))
    cloud.write_roster(deadline=later(hours=hours + 1))

    machine.run()

    result = cloud.result()
    assert result["outcome"] == "succeeded"
    assert later(hours=hours, minutes=-2) < result["booted_at"] <= result["ended_at"] <= later(hours=hours)
    assert machine.shutdowns[-2] in ("-P +62", "-P +63")


def test_a_wrong_clock_does_not_lengthen_a_short_life(cloud: Cloud, machine: Machine) -> None:
    cloud.skew, cloud.metadata_tells_time = -5 * 3600, False
    cloud.tag(deadline="garbled")
    cloud.write_roster(deadline=later(hours=-4))

    machine.run()

    assert machine.shutdowns == ["-P +15", "-P now"]
    deadline = cloud.log().partition("deadline ")[2].splitlines()[0]
    assert later(hours=-5, minutes=11) < deadline < later(hours=-5, minutes=14)


def test_a_clock_that_is_ahead_and_not_set_right_ends_the_worker_early(cloud: Cloud, machine: Machine) -> None:
    cloud.skew, cloud.metadata_tells_time = -5 * 3600, False
    cloud.tag(deadline=later(hours=-4))

    machine.run()

    assert machine.has_powered_off
    assert "its deadline has passed" in machine.console


def test_expired_keys_are_renewed(cloud: Cloud, machine: Machine) -> None:
    cloud.trouble("PUT", "log/00001", status=400, code="ExpiredToken", times=1)
    cloud.write_roster()

    machine.run()

    assert cloud.result()["outcome"] == "succeeded"
    assert cloud.count("GET /imds/latest/meta-data/iam/security-credentials/worker-role") == 2


def test_keys_without_an_end_are_read_again_now_and_then(cloud: Cloud, machine: Machine) -> None:
    keys = json.loads(cloud.metadata["iam/security-credentials/worker-role"])
    del keys["Expiration"]
    cloud.metadata["iam/security-credentials/worker-role"] = json.dumps(keys)
    cloud.write_roster()

    machine.run()

    assert cloud.result()["outcome"] == "succeeded"


@pytest.mark.parametrize("domain", ["amazonaws.com", "amazonaws.com.cn"])
def test_the_bucket_is_looked_for_in_the_partition_of_the_machine(
    on_machine: Cloud, monkeypatch: pytest.MonkeyPatch, domain: str
) -> None:
    monkeypatch.delenv("AWS_ENDPOINT_URL_S3")
    on_machine.metadata["services/domain"] = domain

    bucket = bootstrap.Bucket(bootstrap.Metadata())

    assert bucket._base == f"https://exchange.s3.eu-central-1.{domain}/"
