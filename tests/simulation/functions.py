"""The deployed functions: the real handlers of functions/*/app.py over the real wiring, with our clients."""

from __future__ import annotations

import contextlib
import importlib.util
import inspect
import logging
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

from nightcrew import wiring
from nightcrew.usecases.settings import Settings
from tests.simulation import memory

if TYPE_CHECKING:
    from tests.simulation.world import World

ROOT = Path(__file__).parents[2]
# As template.yaml gives them, with stopped workers kept for as short as it allows.
ENVIRONMENT = {
    "NIGHTCREW_STACK": "nightcrew",
    "NIGHTCREW_TABLE": "nightcrew-table",
    "NIGHTCREW_BUCKET": "nightcrew-bucket",
    "NIGHTCREW_LAUNCH_TEMPLATE": "lt-0123456789abcdef0",
    "NIGHTCREW_LAUNCH_TEMPLATE_VERSION": "3",
    "NIGHTCREW_SUBNETS": "subnet-a,subnet-b",
    "NIGHTCREW_WORKER_ROLE_ID": "AROAEXAMPLE",
    "NIGHTCREW_LAUNCHER": "nightcrew-launcher",
    "NIGHTCREW_TOPIC": "arn:aws:sns:eu-west-1:123456789012:nightcrew",
    "NIGHTCREW_GRACE_SECONDS": "120",
    "NIGHTCREW_CHECK_SECONDS": "300",
    "NIGHTCREW_STOPPED_WORKER_HOURS": "1",
    "NIGHTCREW_MAX_WORKER_HOURS": "24",
}
# Timeouts of template.yaml.
TIMEOUTS = {"launcher": 100.0, "lifecycle": 60.0, "reaper": 300.0}

_quiet = logging.getLogger("tests.simulation.quiet")
_quiet.disabled = True


class _Metrics:
    """Counts what the handlers report."""

    def __init__(self, counts: dict[str, float]) -> None:
        self._counts = counts

    def add_metric(self, name: str, unit: object, value: float) -> None:
        assert unit
        self._counts[name] = self._counts.get(name, 0) + value


@contextlib.contextmanager
def _no_metric(**_: object) -> Iterator[None]:
    yield


@cache
def _app(name: str) -> ModuleType:
    path = ROOT / "functions" / name / "app.py"
    spec = importlib.util.spec_from_file_location(f"simulated_{name}", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.logger = _quiet  # type: ignore[attr-defined]
    module.single_metric = _no_metric  # type: ignore[attr-defined]
    return module


class _Listener(logging.Handler):
    """Hears what the code under test logs: for the invariants, and as lines of the trace."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world

    def emit(self, record: logging.LogRecord) -> None:
        if record.msg == "worker could not be ended":
            self._world.invariants.could_not_end(record.instance_id)  # type: ignore[attr-defined]
        if self._world.kernel.verbose:
            names = ("run_id", "status", "instance_id", "why", "reason", "item")
            about = " ".join(str(getattr(record, name)) for name in names if getattr(record, name, None))
            error = repr(record.exc_info[1]) if record.exc_info else ""
            self._world.kernel.trace.append(f"{'log:':>17} {record.getMessage()} {about} {error}")


class Functions:
    """Makes the use cases by wiring.py itself and calls the handlers as Lambda does."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.counts: dict[str, float] = {}
        settings = Settings.from_env(ENVIRONMENT)
        with _wired(world):
            self._use_cases: dict[str, Any] = {
                "launcher": wiring.launch(settings),
                "lifecycle": wiring.watch(settings),
                "reaper": {
                    "due": wiring.due_sweep(settings),
                    "inventory": wiring.inventory_sweep(settings),
                },
            }

    def body(self, name: str, payload: Any) -> Callable[[], Any]:
        """Return the invocation of a function, to be run by the kernel."""
        app = _app(name)
        handler = inspect.unwrap(app.lambda_handler)

        def run() -> Any:
            return handler(payload, None)

        return run

    def enter(self) -> None:
        """Make this world the one that the handlers' modules see; only one is alive at a time."""
        for name, use_case in self._use_cases.items():
            app = _app(name)
            app.metrics = _Metrics(self.counts)  # type: ignore[attr-defined]
            found = use_case
            setattr(app, "sweeps" if name == "reaper" else "use_case", lambda found=found: found)
        memory.remember()
        log = logging.getLogger("nightcrew")
        self._log = (log.disabled, log.handlers, log.level, log.propagate)
        log.disabled, log.handlers, log.propagate = False, [_Listener(self._world)], False
        log.setLevel(logging.INFO if self._world.kernel.verbose else logging.WARNING)

    def leave(self) -> None:
        memory.forget()
        log = logging.getLogger("nightcrew")
        log.disabled, log.handlers, level, log.propagate = self._log
        log.setLevel(level)


class _wired:  # noqa: N801 - reads as a verb
    """Lets wiring.py make our clients, clock and nonces in place of AWS's."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._real: dict[str, Any] = {}

    def __enter__(self) -> None:
        world = self._world
        fakes = {
            "_client": world.client,
            "boto3": SimpleNamespace(client=lambda service, config: world.launch_client(service, config)),
            "SystemClock": lambda: SimpleNamespace(now=world.kernel.clock),
            "SecretNonces": lambda: SimpleNamespace(draw=world.draw_nonce),
        }
        for name, fake in fakes.items():
            self._real[name] = getattr(wiring, name)
            setattr(wiring, name, fake)

    def __exit__(self, *_: object) -> None:
        for name, real in self._real.items():
            setattr(wiring, name, real)
