"""How long a server asks to be left alone."""

import re
from collections.abc import Mapping

SECONDS = re.compile(r"[0-9]{1,9}(\.[0-9]+)?")
LEAST, MOST = 1.0, 3600.0


def retry_after(headers: Mapping[str, str]) -> float | None:
    """The seconds of `Retry-After` (RFC 9110, section 10.2.3), between one and an hour: zero would be a hot
    loop, and a slip of the pen for ever. None when there are none; dates, which are rare, count as none."""
    given = headers.get("Retry-After", "").strip()
    return min(max(float(given), LEAST), MOST) if SECONDS.fullmatch(given) else None
