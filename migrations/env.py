"""How Alembic reaches the database: by a connection handed in, else by the service's own settings."""

import asyncio

from alembic import context
from sqlalchemy import Connection

from app.access import idempotency as idempotency_models
from app.access import models as access_models
from app.artifacts import models as artifacts_models
from app.database import chores as chores_models
from app.database.base import Base
from app.database.session import open_database
from app.events import log as events_models
from app.events import placing as feed_models
from app.exports import attention as attention_models
from app.exports import jobs as jobs_models
from app.exports import models as exports_models
from app.exports import parents as parents_models
from app.lanes import models as lanes_models
from app.schedules import models as schedules_models
from app.settings import Settings
from app.webhooks import models as webhooks_models

# Importing them is what makes the tables known.
TABLES = (
    access_models,
    artifacts_models,
    attention_models,
    chores_models,
    events_models,
    exports_models,
    feed_models,
    idempotency_models,
    jobs_models,
    lanes_models,
    parents_models,
    schedules_models,
    webhooks_models,
)


def is_ours(name: str | None, kind: str, _: object) -> bool:
    """procrastinate's tables have no models."""
    return not (kind == "table" and name and name.startswith("procrastinate_"))


def migrate(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        compare_server_default=True,
        include_name=is_ours,
    )
    with context.begin_transaction():
        context.run_migrations()


async def migrate_own_database() -> None:
    async with open_database(Settings()) as database, database.engine.begin() as connection:
        await connection.run_sync(migrate)


given: Connection | None = context.config.attributes.get("connection")
if given is not None:
    migrate(given)
else:
    asyncio.run(migrate_own_database())
