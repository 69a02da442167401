"""A whole night of Nightcrew in virtual time: the real handlers, use cases and adapters over a simulated AWS.

`python -m tests.simulation --help`; what is proved by it stands in docs/reliability.md.
"""
