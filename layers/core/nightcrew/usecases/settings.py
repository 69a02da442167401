"""The functions' configuration, read once from the environment that the template gives them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from nightcrew.domain.plan import Template
from nightcrew.domain.run import Limits
from nightcrew.usecases.errors import SettingsError


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    stack: str
    table: str
    bucket: str
    template: Template
    subnets: tuple[str, ...]
    worker_role_id: str
    launcher: str
    topic: str
    limits: Limits

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Settings:
        """Read and check every variable. Raises SettingsError, which names the one that is wrong."""
        limits = Limits(
            grace=timedelta(seconds=_number(env, "NIGHTCREW_GRACE_SECONDS")),
            check_every=timedelta(seconds=_number(env, "NIGHTCREW_CHECK_SECONDS")),
            keep_stopped=timedelta(hours=_number(env, "NIGHTCREW_STOPPED_WORKER_HOURS")),
            max_worker_age=timedelta(hours=_number(env, "NIGHTCREW_MAX_WORKER_HOURS")),
        )
        return cls(
            stack=_text(env, "NIGHTCREW_STACK"),
            table=_text(env, "NIGHTCREW_TABLE"),
            bucket=_text(env, "NIGHTCREW_BUCKET"),
            template=Template(
                template_id=_text(env, "NIGHTCREW_LAUNCH_TEMPLATE"),
                version=_text(env, "NIGHTCREW_LAUNCH_TEMPLATE_VERSION"),
            ),
            subnets=tuple(part.strip() for part in env.get("NIGHTCREW_SUBNETS", "").split(",") if part.strip()),
            worker_role_id=_text(env, "NIGHTCREW_WORKER_ROLE_ID"),
            launcher=_text(env, "NIGHTCREW_LAUNCHER"),
            topic=_text(env, "NIGHTCREW_TOPIC"),
            limits=limits,
        )


def _text(env: Mapping[str, str], name: str) -> str:
    value = env.get(name, "")
    if not value:
        raise SettingsError(f"{name} is not set: the template gives it to every function")
    return value


def _number(env: Mapping[str, str], name: str) -> int:
    text = _text(env, name)
    if not text.isdecimal() or int(text) <= 0:
        raise SettingsError(f"{name}={text!r} is not a whole number above zero")
    return int(text)
