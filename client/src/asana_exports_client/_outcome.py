"""How an export has ended."""

from asana_exports_client.errors import ExportCanceled, ExportFailed, NotFinished
from asana_exports_client.models import Artifact, Export, Status
from asana_exports_client.problems import problem_error

ENDED = frozenset({Status.SUCCEEDED, Status.FAILED, Status.CANCELED})


def succeeded(export: Export) -> Export:
    """The export, if it has succeeded. Raises `ExportFailed`, `ExportCanceled` and `NotFinished`."""
    if export.status == Status.SUCCEEDED:
        return export
    if export.status == Status.CANCELED:
        raise ExportCanceled(export)
    if export.error:
        raise ExportFailed(export, problem_error(export.error))
    raise NotFinished(export)


def artifact_of(export: Export) -> Artifact:
    """The file of an export. Raises as `succeeded` does."""
    if artifact := succeeded(export).artifact:
        return artifact
    raise NotFinished(export)
