"""What can go wrong, besides the problems that the service tells of."""

from asana_exports_client.models import Error, Export, Fault, Problem


class AsanaExportsError(Exception):
    """What goes wrong at the service, or on the way to it."""


class Unreachable(AsanaExportsError):
    """The service could not be reached, or broke off, and trying again did not help."""


class UnexpectedAnswer(AsanaExportsError):
    """An answer that is not of this service, as of a proxy in between."""

    def __init__(self, status: int, detail: str, retry_after: float | None = None) -> None:
        super().__init__(f"{status}: {detail}")
        self.status = status
        self.retry_after = retry_after


class ProblemError(AsanaExportsError):
    """A problem that the service tells of; `asana_exports_client.problems` has a class for each code.

    `code` never changes. `retryable` tells whether the same request may succeed another time, `retry_after`
    after how many seconds. `status` and `request_id` are None where it explains a failed export.
    """

    def __init__(self, problem: Error | Problem, retry_after: float | None = None) -> None:
        places = "".join(f"\n  {fault.pointer}: {fault.detail}" for fault in problem.errors)
        super().__init__(f"{problem.code}: {problem.title} {problem.detail}{places}")
        self.code = problem.code
        self.title = problem.title
        self.detail = problem.detail
        self.retryable = problem.retryable
        self.errors: list[Fault] = problem.errors
        self.status = problem.status if isinstance(problem, Problem) else None
        self.request_id = problem.request_id if isinstance(problem, Problem) else None
        self.retry_after = retry_after


class NotFinished(AsanaExportsError):
    """The export has no file yet."""

    def __init__(self, export: Export) -> None:
        super().__init__(f"The export {export.id} is {export.status}.")
        self.export = export


class ExportFailed(AsanaExportsError):
    """The export has failed; `problem` tells why."""

    def __init__(self, export: Export, problem: ProblemError) -> None:
        super().__init__(f"The export {export.id} has failed. {problem}")
        self.export = export
        self.problem = problem


class ExportCanceled(AsanaExportsError):
    """The export was canceled."""

    def __init__(self, export: Export) -> None:
        super().__init__(f"The export {export.id} was canceled.")
        self.export = export


class Damaged(AsanaExportsError):
    """What came is not the file that the service has verified: it is too short, too long or another one."""


class NotGenuine(AsanaExportsError):
    """A webhook or a receipt that the service has not signed, or an old webhook that is played back."""


class MissingExtra(ImportError):
    """Something needs a package that comes with an extra of this one."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} needs more: pip install 'asana-exports-client[{extra}]'")
