"""The local stack: an AWS emulator with our EC2 host on top, on one machine and without an account."""

from nightcrew_cli.local.client import Instance, LocalError, LocalHost
from nightcrew_cli.local.running import Host, down, status, up
from nightcrew_cli.local.stack import Deployment, deploy

__all__ = ["Deployment", "Host", "Instance", "LocalError", "LocalHost", "deploy", "down", "status", "up"]
