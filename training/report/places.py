"""Where the pages of a report lie, and text without the machine's own paths: a report is the same wherever it is made.

Names of recordings come from foreign files: as file names they are reduced to what every file system can hold.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from urllib.parse import quote

from training.report.fields import text

_KEPT = re.compile(r"[^A-Za-z0-9._-]+")
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)  # no file may be called so on Windows
_MAX_NAME = 80
_SEGMENT = r"[^\s/:'\"](?:[^/:'\"\n]*[^\s/:'\"])?"  # of a path: may hold spaces, but not beside a slash


def page_names(recordings: Sequence[str]) -> list[str]:
    """A file name without suffix for each recording, unlike all others even where case makes no difference.

    A name that had to be changed, or that others would share, ends in a hash of the original, so that it does not
    depend on which recordings came first.
    """
    plain = [_KEPT.sub("_", name).strip("._")[:_MAX_NAME] or "recording" for name in recordings]
    taken = Counter(name.casefold() for name in plain)
    seen: Counter[str] = Counter()
    found = []
    for original, name in zip(recordings, plain, strict=True):
        page = name
        if page != original or taken[page.casefold()] > 1 or _RESERVED.fullmatch(page):
            page = f"{name}-{hashlib.sha256(original.encode('utf-8', 'surrogatepass')).hexdigest()[:10]}"
        seen[page] += 1
        found.append(page if seen[page] == 1 else f"{page}-{seen[page]}")
    return found


def strip_source(dataset: Path, strip: object) -> tuple[str, str] | None:
    """The strip's address from the index and from a recording's page; None where it is not in the dataset."""
    if not isinstance(strip, str) or not strip:
        return None
    path = PurePosixPath(strip)
    if path.is_absolute() or ".." in path.parts or path.parts[:1] != ("report",):
        return None
    try:
        if not (dataset / path).is_file():
            return None
    except (OSError, ValueError):
        return None
    address = quote(str(path.relative_to("report")).encode("utf-8", "surrogateescape"))
    return address, f"../{address}"


def without_paths(message: object, recording: str, dataset: Path) -> str:
    """A message as one line, in which the paths to the recording and to the dataset are shortened to what is inside."""
    line = text(message)
    for folder in {str(dataset), str(dataset.absolute()), str(dataset.resolve())}:
        if len(folder) > 2:
            line = line.replace(folder + "/", "")
    last = re.escape(text(recording).rsplit("__", 1)[-1])
    return re.sub(rf"(?<![\w.])/(?:{_SEGMENT}/)*(?={last})", "", line) if last else line
