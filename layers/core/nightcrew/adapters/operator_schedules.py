"""All schedules of the stack's group: what AWS will fire, whatever the records say."""

from __future__ import annotations

from dataclasses import dataclass

from botocore.exceptions import BotoCoreError, ClientError

from nightcrew.adapters import aws_errors
from nightcrew.adapters.scheduler import SchedulerSchedules
from nightcrew.usecases.errors import UnreadableError
from nightcrew.usecases.operate import ScheduleRecord


@dataclass(frozen=True, slots=True)
class ScheduleGroup:
    schedules: SchedulerSchedules

    def all(self) -> list[ScheduleRecord]:
        """Return every schedule of the group, by name. Raises UnreadableError."""
        client, group = self.schedules.client, self.schedules.group
        try:
            pages = client.get_paginator("list_schedules").paginate(GroupName=group)
            names = sorted(item["Name"] for page in pages for item in page["Schedules"])
            found = (self.schedules.get(name) for name in names)
            return [schedule for schedule in found if schedule is not None]
        except (BotoCoreError, ClientError) as error:
            raise UnreadableError(f"schedules: {aws_errors.message_of(error)}") from error
