"""Job files: strict YAML in, compiled jobs out. Nothing else imports pydantic or ruamel.yaml; import this late."""

from nightcrew_cli.jobfile.loader import JobFile, load
from nightcrew_cli.jobfile.model import schema
from nightcrew_cli.jobfile.problem import JobFileError, Problem

__all__ = ["JobFile", "JobFileError", "Problem", "load", "schema"]
