"""Why a run of the event files cannot start or go on."""


class SamLocalError(Exception):
    """Something that ends the whole run; the message says what and what to do."""


class NotPossibleHereError(SamLocalError):
    """This machine lacks something and we were not allowed to add it: skipped, loudly, and not failed."""
