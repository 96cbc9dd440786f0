"""Conditional and partial requests (RFC 9110, sections 13 and 14) of something that never changes."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime

from starlette.datastructures import Headers

from app.api.waiting import matches
from app.problems import Code, ProblemError

ONE_RANGE = re.compile(r"bytes=[ \t]*(\d{0,18})-(\d{0,18})[ \t]*", re.IGNORECASE | re.ASCII)

QUALITY = re.compile(r"[01](\.\d{0,3})?", re.ASCII)


@dataclass(frozen=True)
class Validators:
    """What tells one representation from another: a strong entity tag, and when it was made."""

    etag: str
    modified: datetime

    def unchanged(self, headers: Headers) -> bool:
        """Whether the caller has it already, the conditions taken in the order of section 13.2.2.

        Raises a problem where the caller wanted another one.
        """
        self._check_match(headers)
        if (seen := headers.get("If-None-Match")) is not None:
            return matches(seen, self.etag)
        since = _moment(headers.get("If-Modified-Since"))
        return since is not None and self._second <= since

    def _check_match(self, headers: Headers) -> None:
        if (wanted := headers.get("If-Match")) is not None:
            met = bool({self.etag, "*"} & {tag.strip() for tag in wanted.split(",")})
        else:
            since = _moment(headers.get("If-Unmodified-Since"))
            met = since is None or self._second <= since
        if not met:
            raise ProblemError(Code.PRECONDITION_FAILED, f"It is {self.etag}, not what was asked for.")

    def part(self, headers: Headers, size: int) -> tuple[int, int] | None:
        """From which byte to before which is wanted, of `size`; None for the whole.

        What is no range, or several, is answered by the whole, as section 14.2 allows. Raises a problem for a
        range beyond the end.
        """
        found = ONE_RANGE.fullmatch(headers.get("Range", ""))
        if not found or not self._is_of_this(headers.get("If-Range")):
            return None
        first, last = found[1], found[2]
        if not first and not last:
            return None
        if not first:
            start, end = max(0, size - int(last)), size
        else:
            start, end = int(first), min(int(last) + 1, size) if last else size
            if last and int(last) < start:
                return None
        if start >= size or start >= end:
            raise ProblemError(Code.RANGE_NOT_SATISFIABLE, f"It has {size} bytes.", size=size)
        return start, end

    def _is_of_this(self, if_range: str | None) -> bool:
        """A weak tag is never good enough, nor is a date but exactly ours (section 13.1.5)."""
        return if_range is None or if_range in {self.etag, http_date(self.modified)}

    @property
    def _second(self) -> datetime:
        return self.modified.replace(microsecond=0)


def prefers(accept: str, media_type: str, *, to: str) -> bool:
    """Whether one of two media types is wanted rather than the other (RFC 9110, section 12.5.1)."""
    return _quality(accept, media_type) > _quality(accept, to)


def _quality(accept: str, media_type: str) -> float:
    """The weight given to it by the most specific range that covers it, between 0 and 1."""
    covering = (media_type, media_type.partition("/")[0] + "/*", "*/*")
    weights = {}
    for each in accept.lower().split(","):
        name, *parameters = (part.strip() for part in each.split(";"))
        weight = next((part[2:] for part in parameters if part.startswith("q=")), "1")
        weights[name] = float(weight) if QUALITY.fullmatch(weight) else 0.0
    return next((weights[each] for each in covering if each in weights), 0.0)


def http_date(moment: datetime) -> str:
    """RFC 9110, section 5.6.7."""
    return format_datetime(moment, usegmt=True)


def _moment(text: str | None) -> datetime | None:
    """What is no date is to be passed over; the oldest form of one names no zone, and means UTC."""
    try:
        moment = parsedate_to_datetime(text or "")
    except (ValueError, OverflowError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
