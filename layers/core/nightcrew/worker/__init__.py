"""What runs on a worker, as text: the launch template and the roster carry it, nobody here imports it."""

from importlib import resources

# The first command limits the life of the machine to a short one. A stage 1 that works makes it longer, though never
# longer than MaxWorkerHours.
# The scope is for the moment when the machine is shut down by others. cloud-init's unit does not pass the news on to
# user scripts (KillMode=process) before the network is gone; a scope of our own is told in time. Whether it can be had
# is tried first, for without it there is only less to save.
USER_DATA_HEADER = """\
#!/bin/bash
shutdown -P +15
python3 -Ic 'import sys; sys.exit(sys.version_info < (3, 9))' || exec shutdown -P now
export NIGHTCREW_CEILING=$((${MaxWorkerHours} * 60))
export NIGHTCREW_BUCKET='${Bucket}' NIGHTCREW_WORKER_ROLE_ID='${WorkerRole.RoleId}' AWS_REGION='${AWS::Region}'
scope=
if grep -Eqs 'cloud-(init|final)' /proc/self/cgroup; then
  scope='systemd-run --quiet --scope --property=After=network-online.target'
  $scope true || scope=
fi
exec $scope python3 -I - <<'BOOTSTRAP'
"""
USER_DATA_FOOTER = "BOOTSTRAP\n"


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
