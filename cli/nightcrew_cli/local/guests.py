"""The guests of the host: which process tree belongs to which instance."""

from collections.abc import Callable
from dataclasses import dataclass, field

from nightcrew_cli.local.instances import Instance
from nightcrew_cli.local.settings import HostSettings
from nightcrew_cli.local.worker_process import GuestReport, WorkerProcess


@dataclass(slots=True, kw_only=True)
class GuestHouse:
    """Boots and ends guests; `powered_off` is told when one switched itself off."""

    settings: HostSettings
    powered_off: Callable[[str], None] = lambda _: None
    workers: dict[str, WorkerProcess] = field(default_factory=dict)

    def boot(self, instance: Instance) -> None:
        worker = WorkerProcess(instance.instance_id, self.settings, self._heard)
        self.workers[instance.instance_id] = worker
        worker.boot(instance.user_data)

    def shut_down(self, instance_id: str, grace: float) -> None:
        if worker := self.workers.get(instance_id):
            worker.stop(grace)

    def pull_plug(self, instance_id: str) -> None:
        if worker := self.workers.get(instance_id):
            worker.kill()

    def freeze(self, instance_id: str) -> None:
        if worker := self.workers.get(instance_id):
            worker.freeze()

    def is_alive(self, instance_id: str) -> bool:
        worker = self.workers.get(instance_id)
        return worker is not None and worker.is_alive

    def console(self, instance_id: str) -> str:
        worker = self.workers.get(instance_id)
        return worker.console() if worker else ""

    def _heard(self, report: GuestReport) -> None:
        if report.event == "poweroff":
            self.powered_off(report.instance_id)
