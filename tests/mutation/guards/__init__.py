"""All guards, by what they stand before."""

from tests.mutation.guards import access, api, asana, database, exports, files, lanes, worker

GUARDS = (
    *lanes.GUARDS,
    *worker.GUARDS,
    *exports.GUARDS,
    *files.GUARDS,
    *asana.GUARDS,
    *access.GUARDS,
    *api.GUARDS,
    *database.GUARDS,
)
