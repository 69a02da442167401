"""Job output made safe for a terminal: a hostile or careless log must not move the cursor, set titles or lie."""

from __future__ import annotations

import codecs
import re

# Whole control sequences, so that their parameters do not stay behind as litter: CSI, then OSC, DCS, SOS, PM and
# APC with their terminators, then the short escapes.
_SEQUENCE = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]?"
    r"|(?:\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f])[^\x07\x1b\x9c\n]*(?:\x07|\x1b\\|\x9c)?"
    r"|\x1b[ -/]*[0-~]?"
)
# What is left of the control characters, and those that reorder or hide text.
_CONTROL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\U000e0000-\U000e007f]"
)
_LONGEST_LINE = 64 * 1024


def clean(text: str) -> str:
    """Return the text with newlines and tabs as its only control characters."""
    return _CONTROL.sub("", _SEQUENCE.sub("", text.replace("\r\n", "\n").replace("\r", "\n")))


class Lines:
    """Bytes as they arrive to whole clean lines: a character or a sequence may be cut anywhere."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._rest = ""

    def feed(self, data: bytes, *, final: bool = False) -> list[str]:
        """Return the lines that are complete now; at the end, also what is left."""
        text = self._rest + self._decoder.decode(data, final)
        # A carriage return at the very end may be the first half of a line end.
        cut = len(text) if final else max(text.rfind("\n"), text.rfind("\r", 0, len(text) - 1)) + 1
        if not final and len(text) - cut > _LONGEST_LINE:
            cut = len(text)
        whole, self._rest = text[:cut], text[cut:]
        return clean(whole).split("\n")[: -1 if whole.endswith(("\n", "\r")) else None] if whole else []
