"""All guards, by what they stand before."""

from tests.mutation.guards import (
    access,
    api,
    asana,
    client,
    command,
    conversions,
    database,
    events,
    exports,
    files,
    jobs,
    lanes,
    retention,
    schedules,
    webhooks,
    worker,
)

GUARDS = (
    *lanes.GUARDS,
    *worker.GUARDS,
    *exports.GUARDS,
    *schedules.GUARDS,
    *files.GUARDS,
    *conversions.GUARDS,
    *retention.GUARDS,
    *webhooks.GUARDS,
    *asana.GUARDS,
    *access.GUARDS,
    *api.GUARDS,
    *client.GUARDS,
    *jobs.GUARDS,
    *command.GUARDS,
    *events.GUARDS,
    *database.GUARDS,
)
