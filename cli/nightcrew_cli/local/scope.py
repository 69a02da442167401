"""Account and Region of work that no request asked for: timers, verbs, guests."""

from collections.abc import Iterator
from contextlib import contextmanager

from ministack.core.responses import get_account_id, get_region, set_request_account_id, set_request_region


@contextmanager
def scope(account: str, region: str) -> Iterator[None]:
    """Act for this account and Region; the emulator keeps both per request."""
    before = get_account_id(), get_region()
    set_request_account_id(account)
    set_request_region(region)
    try:
        yield
    finally:
        set_request_account_id(before[0])
        set_request_region(before[1])
