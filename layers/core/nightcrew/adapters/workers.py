"""EC2 instances that are our workers: read, terminate, stop."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from nightcrew.adapters import aws_errors
from nightcrew.domain import tags as tag
from nightcrew.domain.sweep import SeenWorker, WorkerState
from nightcrew.usecases.errors import UnreadableError
from nightcrew.usecases.ports import EndReport, EndStatus

if TYPE_CHECKING:
    from mypy_boto3_ec2 import EC2Client

# AWS takes up to 1,000 ids in a call; one page of the inventory holds as many.
_BATCH = 1000
_LIVING = ["pending", "running", "stopping", "stopped"]

ENDED = EndReport(EndStatus.ENDED)


@dataclass(frozen=True, slots=True)
class Ec2Workers:
    client: EC2Client
    stack: str

    def describe(self, instance_ids: Sequence[str]) -> Mapping[str, SeenWorker]:
        """Ask by filter, not by id: one unknown id would fail the whole call."""
        if not instance_ids:
            return {}
        filters = [{"Name": "instance-id", "Values": list(instance_ids)}]
        return {worker.instance_id: worker for worker in self._list(filters)}

    def of_launch(self, launch: str) -> SeenWorker | None:
        filters = [{"Name": f"tag:{tag.LAUNCH}", "Values": [launch]}, _state_filter()]
        return next((worker for worker in self._list(filters) if self._is_ours(worker)), None)

    def all_ours(self) -> Sequence[SeenWorker]:
        # One tag filter and one state filter: every further tag filter is paid for in tens of seconds.
        filters = [{"Name": f"tag:{tag.STACK}", "Values": [self.stack]}, _state_filter()]
        return list(self._list(filters))

    def _is_ours(self, worker: SeenWorker) -> bool:
        return worker.tags.get(tag.STACK) == self.stack

    def _list(self, filters: list[dict[str, Any]]) -> Iterator[SeenWorker]:
        try:
            pages = self.client.get_paginator("describe_instances").paginate(
                Filters=filters,  # type: ignore[arg-type]
                PaginationConfig={"PageSize": _BATCH},
            )
            for page in pages:
                for reservation in page["Reservations"]:
                    yield from map(_seen, reservation["Instances"])
        except aws_errors.FAILURES as error:
            raise UnreadableError(f"instances: {aws_errors.message_of(error)}") from error

    def terminate(self, instance_ids: Sequence[str]) -> Mapping[str, EndReport]:
        return self._end(instance_ids, lambda ids: self.client.terminate_instances(InstanceIds=ids))

    def stop(self, instance_ids: Sequence[str]) -> Mapping[str, EndReport]:
        return self._end(instance_ids, lambda ids: self.client.stop_instances(InstanceIds=ids))

    def _end(self, instance_ids: Iterable[str], call: Callable[[list[str]], object]) -> Mapping[str, EndReport]:
        reports: dict[str, EndReport] = {}
        ids = sorted(set(instance_ids))
        for start in range(0, len(ids), _BATCH):
            self._end_batch(ids[start : start + _BATCH], call, reports)
        return reports

    def _end_batch(self, ids: list[str], call: Callable[[list[str]], object], reports: dict[str, EndReport]) -> None:
        """End a batch; EC2 refuses it as a whole for one bad id, so a refused batch is halved.

        Throttling and the like concern every id alike: halving would only make more calls of it.
        """
        if not ids:
            return
        try:
            call(ids)
        except aws_errors.FAILURES as error:
            code = aws_errors.code_of(error) if isinstance(error, ClientError) else ""
            if len(ids) > 1 and code in aws_errors.ABOUT_ONE_ID:
                half = len(ids) // 2
                self._end_batch(ids[:half], call, reports)
                self._end_batch(ids[half:], call, reports)
                return
            for instance_id in ids:
                reports[instance_id] = self._failure(instance_id, error)
            return
        reports.update(dict.fromkeys(ids, ENDED))

    def _failure(self, instance_id: str, error: aws_errors.Failure) -> EndReport:
        message = aws_errors.message_of(error)
        code = aws_errors.code_of(error) if isinstance(error, ClientError) else ""
        if code in aws_errors.NOT_FOUND:
            return ENDED
        if code in aws_errors.PROTECTED:
            return EndReport(EndStatus.PROTECTED, message)
        denied = code in aws_errors.DENIED
        if not denied and code not in aws_errors.WRONG_STATE:
            return EndReport(EndStatus.FAILED, message)
        # A permission that depends on tags is refused once the tags of a dead instance have faded, and a dead
        # instance cannot be stopped.
        status = EndStatus.DENIED if denied else EndStatus.FAILED
        try:
            seen = self.describe([instance_id]).get(instance_id)
        except UnreadableError:
            return EndReport(status, message)
        is_gone = denied if seen is None else seen.state.is_gone
        return ENDED if is_gone else EndReport(status, message)


def _state_filter() -> dict[str, Any]:
    return {"Name": "instance-state-name", "Values": _LIVING}


def _seen(instance: Any) -> SeenWorker:
    reason = instance.get("StateReason", {})
    return SeenWorker(
        instance_id=instance["InstanceId"],
        state=WorkerState(instance["State"]["Name"]),
        launched_at=instance["LaunchTime"],
        tags={item["Key"]: item.get("Value", "") for item in instance.get("Tags", [])},
        instance_type=instance.get("InstanceType", ""),
        capacity_type="spot" if instance.get("InstanceLifecycle") == "spot" else "on-demand",
        zone=instance.get("Placement", {}).get("AvailabilityZone", ""),
        private_address=instance.get("PrivateIpAddress", ""),
        public_address=instance.get("PublicIpAddress", ""),
        end_cause=aws_errors.end_cause(reason.get("Code", "")),
        end_reason=reason.get("Message", ""),
    )
