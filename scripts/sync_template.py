"""Put the worker's user data into template.yaml, between its markers; with --check only say whether it is there."""

import sys
from pathlib import Path

from nightcrew.worker import user_data

TEMPLATE = Path(__file__).parent.parent / "template.yaml"
BEGIN, END = "          Fn::Base64: !Sub |\n", "  # ---- Telling people"
INDENT = " " * 12


def synced(template: str) -> str:
    """Return the template with today's user data."""
    head, rest = template.split(BEGIN, 1)
    _, tail = rest.split(END, 1)
    block = "".join(INDENT + line if line.strip() else line for line in user_data().splitlines(keepends=True))
    return f"{head}{BEGIN}{block}\n{END}{tail}"


def main() -> int:
    current = TEMPLATE.read_text(encoding="utf-8")
    wanted = synced(current)
    if current == wanted:
        return 0
    if "--check" in sys.argv:
        print("template.yaml does not hold the current bootstrap: run `make template`", file=sys.stderr)  # noqa: T201
        return 1
    TEMPLATE.write_text(wanted, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
