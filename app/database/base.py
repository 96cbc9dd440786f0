"""What every table shares: the naming of constraints and the types that annotations stand for."""

from datetime import datetime
from enum import StrEnum
from typing import Any, ClassVar, NewType

from sqlalchemy import BigInteger, Column, DateTime, Enum, LargeBinary, MetaData, Text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import DeclarativeBase
from sqlalchemy.types import TypeEngine

from app.ids import (
    ArtifactId,
    ClientId,
    CredentialId,
    EndpointId,
    EventId,
    ExportId,
    LaneKey,
    OutputId,
    RunId,
    ScheduleId,
    WorkerId,
)

Json = dict[str, Any]
BigInt = NewType("BigInt", int)
# Locks a row against changes, but not against being referred to.
NO_KEY_UPDATE = {"key_share": True}

# Ids sort by time of making only if letters are compared by their bytes.
_ID = Text(collation="C")


class Base(DeclarativeBase):
    metadata = MetaData(
        naming_convention={
            "ix": "%(table_name)s_%(column_0_N_name)s_idx",
            "uq": "%(table_name)s_%(column_0_N_name)s_key",
            "ck": "%(table_name)s_%(constraint_name)s_check",
            "fk": "%(table_name)s_%(column_0_N_name)s_fkey",
            "pk": "%(table_name)s_pkey",
        }
    )
    type_annotation_map: ClassVar[dict[Any, TypeEngine[Any]]] = {
        datetime: DateTime(timezone=True),
        str: Text(),
        BigInt: BigInteger(),
        Json: JSONB(),
        list[Json]: JSONB(),
        list[str]: ARRAY(Text),
        **dict.fromkeys(
            (
                ArtifactId,
                ClientId,
                CredentialId,
                EndpointId,
                EventId,
                ExportId,
                LaneKey,
                OutputId,
                RunId,
                ScheduleId,
                WorkerId,
            ),
            _ID,
        ),
    }


class Encrypted(LargeBinary):
    """A secret of the vault. A rotation finds it by this type, and by the `id` of its row."""


def encrypted_columns() -> list[Column[bytes]]:
    """Wherever secrets are kept."""
    columns = (column for table in Base.metadata.sorted_tables for column in table.columns)
    return [column for column in columns if isinstance(column.type, Encrypted)]


def one_of(values: type[StrEnum], name: str) -> Enum:
    """A text column that the database itself holds to the members of an enum."""
    return Enum(
        values,
        name=name,
        native_enum=False,
        create_constraint=True,
        length=32,
        values_callable=lambda members: [member.value for member in members],
    )
