"""Enums that a newer service may extend."""

import enum


class StrEnum(enum.StrEnum):
    """Takes values it does not know as they are, so that an answer of a newer service can be read."""

    @classmethod
    def _missing_(cls, value: object) -> "StrEnum | None":
        if not isinstance(value, str):
            return None
        unknown = str.__new__(cls, value)
        unknown._name_ = unknown._value_ = value
        return unknown
