"""What runs on a worker, as text: the launch template and the roster carry it, nobody here imports it."""

from importlib import resources

# The first line that does anything limits the machine's life: nothing that fails later can take that back.
# The rest, up to the heredoc, is for the moment when the machine is shut down by others. cloud-init's unit does not
# pass the news on to user scripts (KillMode=process) before the network is gone; a scope of our own is told in time.
# Whether it can be had is tried first, for without it there is only less to save.
USER_DATA_HEADER = """\
#!/bin/bash
export NIGHTCREW_CEILING=$((${MaxWorkerHours} * 60))
shutdown -P +$NIGHTCREW_CEILING
export NIGHTCREW_BUCKET='${Bucket}' NIGHTCREW_WORKER_ROLE_ID='${WorkerRole.RoleId}' AWS_REGION='${AWS::Region}'
scope=
if grep -Eqs 'cloud-(init|final)' /proc/self/cgroup; then
  scope='systemd-run --quiet --scope --property=After=network-online.target'
  $scope true || scope=
fi
shopt -s execfail
exec $scope python3 -I - <<'BOOTSTRAP'
"""
# Reached only when there is no python3.
USER_DATA_FOOTER = """\
BOOTSTRAP
shutdown -P now
"""


def bootstrap_source() -> str:
    """Return stage 1, the larger part of the launch template's user data."""
    return _source("bootstrap.py")


def program_source() -> str:
    """Return stage 2, which travels in the roster."""
    return _source("program.py")


def user_data() -> str:
    """Return the launch template's user data as an argument of Fn::Sub."""
    return USER_DATA_HEADER + bootstrap_source() + USER_DATA_FOOTER


def _source(name: str) -> str:
    return resources.files(__name__).joinpath(name).read_text(encoding="utf-8")
