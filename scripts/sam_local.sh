#!/usr/bin/env bash
# Runs every file under events/ through `sam local invoke`, in a real container. See docs/sam-local.md.
set -euo pipefail
cd "$(dirname "$0")/.."

if [ ! -x .venv/bin/python ]; then
  echo "sam-local: SKIPPED: there is no .venv yet; run 'make setup' first" >&2
  exit 3
fi
PYTHONPATH=scripts exec .venv/bin/python -m sam_local "$@"
