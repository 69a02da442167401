"""Every deliberate error.

NightcrewError
├── SettingsError          a variable of the environment is missing or wrong
├── UnknownJobError        a tick names a job or revision that has no record
├── LaunchInputError       an image or subnet of the job cannot be used; ends the run, is not retried
├── StaleRunError          somebody else changed the run first: load again, decide again
├── AmbiguousLaunchError   a launch may or may not have happened: the same call again, later
├── UnreadableError        AWS could not be read; nothing may be concluded from it
└── SweepError             a sweep did all it could, and part of it failed
"""

from __future__ import annotations


class NightcrewError(Exception):
    """Base of all deliberate errors."""


class SettingsError(NightcrewError):
    pass


class UnknownJobError(NightcrewError):
    pass


class LaunchInputError(NightcrewError):
    pass


class StaleRunError(NightcrewError):
    pass


class AmbiguousLaunchError(NightcrewError):
    pass


class UnreadableError(NightcrewError):
    pass


class SweepError(NightcrewError):
    pass
