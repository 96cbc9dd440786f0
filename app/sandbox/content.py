"""Tasks, messages and teams, each computed from the seed and its number, so that size costs no memory."""

from datetime import UTC, datetime
from typing import Any

from app.sandbox.cast import Cast, Compact
from app.sandbox.clock import timestamp
from app.sandbox.dice import roll
from app.sandbox.world import Kind, gid_of

Line = dict[str, Any]

DAY = 86400
EPOCH = int(datetime(2026, 1, 1, tzinfo=UTC).timestamp())
"""Everything was created in the three years before, and most of it changes again now and then."""
OPT_IN = ("html_notes",)
"""Fields that a line has only when they are asked for."""

VERBS = ("Review", "Draft", "Fix", "Plan", "Publish", "Measure", "Translate", "Retire")
THINGS = (
    "the budget",
    "release notes",
    "the login page",
    "a survey",
    "the rollout",
    "naïve defaults",
    "the 見積もり",
)
STATUSES = (
    "on_track",
    "at_risk",
    "off_track",
    "on_hold",
    "complete",
    "achieved",
    "partial",
    "missed",
    "dropped",
)


def _history(bits: int, now: float) -> tuple[float, float, int] | None:
    """When an object was created, when it last changed before now, and how often it has changed."""
    period = DAY * (1 + bits % 365)
    created = EPOCH - (bits >> 16) % (3 * 365 * DAY)
    if created > now:
        return None
    revision = int((now - created) // period)
    return created, created + revision * period, revision


def task(cast: Cast, number: int, now: float) -> Line | None:
    """The number-th task of the workspace, or None if it does not exist yet."""
    spec, project, place = cast.spec, (number - 1) % cast.spec.projects, (number - 1) // cast.spec.projects
    bits = roll(cast.seed, 7, number)
    history = _history(bits, now)
    if history is None:
        return None
    created, modified, revision = history
    gid = gid_of(spec.gid, Kind.TASK, number)
    author, assignee = cast.user(bits >> 3), cast.user(bits >> 11) if bits % 5 else None
    done = bits % 3 == 0 and revision > 0
    changed = timestamp(modified)
    # Every fifth task of a project is a subtask of the one before it.
    parent = number - spec.projects if place % 5 == 4 else None
    name = f"{VERBS[bits % 8]} {THINGS[(bits >> 5) % 7]} #{number}"
    return {
        "gid": gid,
        "resource_type": "task",
        "resource_subtype": "milestone" if bits % 29 == 0 else "default_task",
        "name": name,
        "notes": f"{name}: revision {revision}.\nSecond line, with “quotes”.",
        "html_notes": f"<body>{name}: revision {revision}.</body>",
        "approval_status": None,
        "assignee": assignee,
        "assigned_by": cast.user(bits >> 19) if assignee else None,
        "created_by": author,
        "created_at": timestamp(created),
        "modified_at": changed,
        "completed": done,
        "completed_at": changed if done else None,
        "completed_by": assignee if done else None,
        "start_on": None,
        "due_on": timestamp(created + DAY * (7 + bits % 60))[:10] if bits % 4 else None,
        "followers": [author, *cast.some_users(bits >> 23, 3)],
        "likes": (likes := _likes(gid, cast.some_users(bits >> 29, 2))),
        "num_likes": len(likes),
        "memberships": [{"project": cast.projects[project], "section": cast.sections[project][bits % 3]}],
        "projects": [cast.projects[project]],
        "parent": {"gid": gid_of(spec.gid, Kind.TASK, parent), "resource_type": "task"} if parent else None,
        "num_subtasks": 1 if place % 5 == 3 else 0,
        "tags": [],
        "custom_fields": _custom_fields(spec.gid, bits),
        "attachments": _attachments(gid, bits >> 31),
        "stories": _stories(cast, gid, author, created, bits >> 37),
        "permalink_url": f"https://app.asana.com/0/{cast.projects[project]['gid']}/{gid}",
        "workspace": cast.workspace,
    }


def message(cast: Cast, number: int, now: float) -> Line | None:
    """The number-th message of the workspace, or None if it does not exist yet."""
    bits = roll(cast.seed, 8, number)
    history = _history(bits, now)
    if history is None:
        return None
    created, modified, revision = history
    gid = gid_of(cast.spec.gid, Kind.MESSAGE, number)
    author, update = cast.user(bits >> 3), bits % 3 == 0
    title = f"{'Status update' if update else 'Announcement'} {number}"
    return {
        "gid": gid,
        "resource_type": "message",
        "resource_subtype": "status_update" if update else "default",
        "status_type": STATUSES[bits % 9] if update else None,
        "title": title,
        "text": f"{title}, revision {revision}: {VERBS[bits % 8].lower()} {THINGS[(bits >> 5) % 7]}.",
        "html_notes": f"<body>{title}</body>",
        "created_by": author,
        "created_at": timestamp(created),
        "modified_at": timestamp(modified),
        "followers": [author, *cast.some_users(bits >> 23, 3)],
        "likes": (likes := _likes(gid, cast.some_users(bits >> 29, 2))),
        "num_likes": len(likes),
        "parents": [cast.projects[bits % len(cast.projects)]],
        "attachments": _attachments(gid, bits >> 31),
        "stories": _stories(cast, gid, author, created, bits >> 37),
    }


def team(cast: Cast, number: int) -> Line:
    """The number-th team, with its members."""
    bits = roll(cast.seed, 1, number)
    named = cast.teams[number - 1]
    return {
        **named,
        "description": f"Everything about {named['name']}.",
        "html_description": f"<body>Everything about {named['name']}.</body>",
        "organization": cast.workspace,
        "permalink_url": f"https://app.asana.com/0/team/{named['gid']}",
        "visibility": ("secret", "request_to_join", "public")[bits % 3],
        "members": [cast.user(number), *cast.some_users(bits, 5)],
    }


def without_opt_in(line: Line) -> Line:
    """The line as it is when no fields are asked for."""
    for field in OPT_IN:
        line.pop(field, None)
    return line


def _likes(gid: str, users: list[Compact]) -> list[Compact]:
    return [{"gid": f"{gid}1{place}", "user": user} for place, user in enumerate(users)]


def _custom_fields(workspace: str, bits: int) -> list[Line]:
    priority = ("Low", "Medium", "High")[bits % 3]
    effort = (bits >> 7) % 40 / 2
    return [
        {
            "gid": f"{workspace}9001",
            "resource_type": "custom_field",
            "resource_subtype": "enum",
            "name": "Priority",
            "enum_value": {
                "gid": f"{workspace}90011{bits % 3}",
                "resource_type": "enum_option",
                "name": priority,
            },
            "display_value": priority,
        },
        {
            "gid": f"{workspace}9002",
            "resource_type": "custom_field",
            "resource_subtype": "number",
            "name": "Effort",
            "number_value": effort,
            "display_value": f"{effort:g}",
        },
    ]


def _attachments(gid: str, bits: int) -> list[Line]:
    return [
        {
            "gid": f"{gid}2{place}",
            "resource_type": "attachment",
            "resource_subtype": "asana",
            "name": f"scan-{place}.pdf",
            "size": 1000 + (bits >> place) % 90_000,
        }
        for place in range(max(0, bits % 5 - 2))
    ]


def _stories(cast: Cast, gid: str, author: Compact, created: float, bits: int) -> list[Line]:
    stories: list[Line] = [_story(gid, 0, "added_to_project", author, created, "added to a project")]
    for place, user in enumerate(cast.some_users(bits, 3), 1):
        stories.append(
            _story(gid, place, "comment_added", user, created + place * 3600, f"Comment {place}: fine.")
        )
    return stories


def _story(gid: str, place: int, subtype: str, user: Compact, when: float, text: str) -> Line:
    return {
        "gid": f"{gid}3{place}",
        "resource_type": "story",
        "resource_subtype": subtype,
        "type": "comment" if subtype == "comment_added" else "system",
        "created_at": timestamp(when),
        "created_by": user,
        "text": text,
    }
