"""What people write after `cron:` and `at:`, translated to an EventBridge Scheduler expression."""

import re
from datetime import datetime

from nightcrew.domain.cron import DAY_OF_MONTH, HOUR, MINUTE, MONTH, ScheduleError, parse_values
from nightcrew.domain.schedule import parse

_WEEKDAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
_EVERY = ("*", "*/1")
_NICKNAMES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}


def cron_expression(text: str) -> str:
    """Translate five Unix or six AWS fields, or raise ScheduleError."""
    if text.strip().lower() in _NICKNAMES:
        raise ScheduleError(f"{text!r} is a nickname: write {_NICKNAMES[text.strip().lower()]!r}")
    if text.strip().lower().startswith("cron("):
        raise ScheduleError("write the fields only, without 'cron(' and ')'")
    fields = text.upper().split()
    if len(fields) in (5, 6):
        expression = f"cron({_from_unix(*fields) if len(fields) == 5 else ' '.join(fields)})"
        parse(expression)
        return expression
    raise ScheduleError(
        f"{text!r} has {len(fields)} fields: write five (minute hour day month weekday, as in crontab)"
        " or six (minute hour day-of-month month day-of-week year, as in AWS)"
    )


def at_expression(text: str) -> str:
    """Translate a local date and time, or raise ScheduleError."""
    allowed = "write a date and time such as 2026-12-24T02:00"
    if re.search(r"[0-9](Z|[+-][0-9]{2}:?[0-9]{2})$", text) and "T" in text:
        raise ScheduleError(f"{text!r} carries an offset: leave it out and set 'timezone'")
    if not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}(:[0-9]{2})?", text):
        raise ScheduleError(f"{text!r} is not a time: {allowed}")
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise ScheduleError(f"{text!r} is not a time ({error}): {allowed}") from error
    expression = f"at({moment.isoformat(timespec='seconds')})"
    parse(expression)
    return expression


def _from_unix(minute: str, hour: str, day: str, month: str, weekday: str) -> str:
    six_fields = "that is AWS cron, which has six fields, such as '0 2 L * ? *'"
    for field, text in ((MINUTE, minute), (HOUR, hour), (DAY_OF_MONTH, day), (MONTH, month)):
        if re.search("[?LW#]", text) and not any(name in text for name in field.names):
            raise ScheduleError(f"{field.name} {text!r}: {six_fields}")
        if re.search("(^|,)[^*,-]+/", text):
            raise field.refuse(text, "a step needs a range or '*' before it, as in 5-59/15")
        parse_values(field, text)
    if weekday in _EVERY:
        return f"{minute} {hour} {'*' if day in _EVERY else day} {month} ? *"
    days_of_week = _days_of_week(weekday, six_fields)
    if day not in _EVERY:
        raise ScheduleError(
            f"day {day!r} and weekday {weekday!r} are both limited: crontab would run on either, AWS cannot say that;"
            " put '*' in one of them, or make it two jobs"
        )
    return f"{minute} {hour} ? {month} {days_of_week} *"


def _days_of_week(text: str, six_fields: str) -> str:
    """Spell crontab's days (0 or 7 is Sunday, steps allowed) as AWS names, which leave no doubt about numbers."""
    if re.search("[?#]|L$", text):
        raise ScheduleError(f"weekday {text!r}: {six_fields}")
    days = {number % 7 for part in text.split(",") for number in _weekday_range(part, text)}
    runs: list[list[int]] = []
    for day in sorted(days):
        if runs and runs[-1][-1] == day - 1:
            runs[-1].append(day)
        else:
            runs.append([day])
    return ",".join(_WEEKDAYS[run[0]] if len(run) == 1 else f"{_WEEKDAYS[run[0]]}-{_WEEKDAYS[run[-1]]}" for run in runs)


def _weekday_range(part: str, text: str) -> range:
    match = re.fullmatch(r"(?:(\*)|([0-7]|[A-Z]{3})(?:-([0-7]|[A-Z]{3}))?)(?:/([1-7]))?", part)
    if match is None:
        raise ScheduleError(
            f"weekday {text!r}: {part!r} is not understood; allowed: 0-7 (0 and 7 are Sunday) or SUN-SAT"
        )
    star, start_text, end_text, step = match.groups()
    if step and not (star or end_text):
        raise ScheduleError(f"weekday {text!r}: a step needs a range or '*' before it")
    start = 0 if star else _weekday(start_text, text)
    end = 6 if star else _weekday(end_text or start_text, text)
    if end_text == "SUN" and start > 0:
        end = 7
    if start > end:
        raise ScheduleError(f"weekday {text!r}: {part!r} runs backwards, write it as two ranges")
    return range(start, end + 1, int(step or 1))


def _weekday(word: str, text: str) -> int:
    if word.isdigit():
        return int(word)
    if word not in _WEEKDAYS:
        raise ScheduleError(f"weekday {text!r}: {word!r} is not a day; allowed: 0-7 (0 and 7 are Sunday) or SUN-SAT")
    return _WEEKDAYS.index(word)
