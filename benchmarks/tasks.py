"""Tasks as Asana exports them, by chance but the same each time."""

import random
from typing import Any

POOL = 20_000
WORDS = ["lorem", "ipsum", "dolor", "sit", "amet", "größer", "漢字", "résumé"]


def task(dice: random.Random) -> dict[str, Any]:
    return named(dice, "task") | {
        "created_at": moment(dice),
        "completed_at": dice.choice([None, moment(dice)]),
        "due_on": dice.choice([None, "2026-01-02"]),
        "completed": dice.random() < 0.5,
        "assignee": dice.choice([None, named(dice, "user")]),
        "custom_fields": [custom_field(dice) for _ in range(dice.randint(0, 6))],
        "followers": [named(dice, "user") for _ in range(dice.randint(0, 4))],
        "memberships": [{"project": named(dice, "project"), "section": named(dice, "section")}],
        "notes": words(dice, dice.randint(0, 120)),
        "num_likes": dice.randint(0, 9),
        "parent": None,
        "tags": [],
    }


def custom_field(dice: random.Random) -> dict[str, Any]:
    values: list[dict[str, Any]] = [
        {"type": "text", "text_value": words(dice, 4)},
        {"type": "number", "number_value": dice.choice([None, 3, 2.5]), "precision": 2},
        {
            "type": "enum",
            "enum_value": named(dice, "enum_option"),
            "enum_options": [named(dice, "enum_option")],
        },
    ]
    return named(dice, "custom_field") | dice.choice(values)


def named(dice: random.Random, kind: str) -> dict[str, Any]:
    return {"gid": str(dice.randint(10**15, 10**16)), "resource_type": kind, "name": words(dice, 3)}


def words(dice: random.Random, number: int) -> str:
    return " ".join(dice.choices(WORDS, k=number))


def moment(dice: random.Random) -> str:
    return f"20{dice.randint(10, 26)}-01-{dice.randint(10, 28)}T03:04:05.{dice.randint(100, 999)}Z"
