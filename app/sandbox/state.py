"""Everything the stand-in remembers."""

import secrets

from app.sandbox.clock import VirtualClock
from app.sandbox.exportrequests import Item
from app.sandbox.faults import Faults
from app.sandbox.jobs import Job, JobBook
from app.sandbox.journal import Journal, Stats
from app.sandbox.recipe import GraphRecipe, ResourceRecipe, Viewer
from app.sandbox.settings import SandboxSettings, WorkspaceSpec
from app.sandbox.spool import Spool
from app.sandbox.tokens import RateLimit, Token, Tokens
from app.sandbox.world import Parent


class Sandbox:
    """The stand-in's state, which `reset` makes new."""

    def __init__(self, settings: SandboxSettings) -> None:
        self._initial = settings
        self.secret = secrets.token_bytes(16)
        self._begin()

    def _begin(self) -> None:
        settings = self.settings = self._initial.model_copy(deep=True)
        starts_at = settings.starts_at.timestamp() if settings.starts_at else None
        self.clock = VirtualClock(starts_at, settings.time_scale)
        self.tokens = Tokens()
        self.rates = RateLimit()
        self.faults = Faults()
        self.journal = Journal(settings.journal_entries)
        self.jobs = JobBook()
        self.spool = Spool()

    def reset(self) -> None:
        """Forget everything and start again with the first settings."""
        self.spool.close()
        self._begin()

    def now(self) -> float:
        """The virtual time."""
        return self.clock.now()

    def change(self, changes: dict[str, object]) -> SandboxSettings:
        """Change settings; the clock follows at once, jobs only when they start."""
        self.settings = self.settings.patched(changes)
        if self.clock.scale != self.settings.time_scale:
            self.clock.run_at(self.settings.time_scale)
        return self.settings

    def put_workspace(self, spec: WorkspaceSpec) -> None:
        """Add a workspace or give it another size."""
        self.settings.workspaces[spec.gid] = spec

    def graph_recipe(self, token: Token, parent: Parent) -> GraphRecipe:
        """What the file of a graph export started now will contain."""
        viewer = Viewer(token.name, token.sees)
        return GraphRecipe(self.settings.seed, viewer, self.now(), parent, self.settings.flat_graph_lines)

    def resource_recipe(self, token: Token, spec: WorkspaceSpec, items: tuple[Item, ...]) -> ResourceRecipe:
        """What the file of a resource export started now will contain."""
        viewer = Viewer(token.name, token.sees)
        return ResourceRecipe(
            self.settings.seed, viewer, self.now(), spec, items, self.settings.inclusive_bounds
        )

    def has_file(self, job: Job) -> bool:
        """Whether the job's file is there to be fetched: neither too early nor too late."""
        export, now = job.export, self.now()
        return not job.fails and export.url_at <= now < export.completed_at + self.settings.file_lifetime

    def stats(self) -> Stats:
        """All counts."""
        return self.journal.stats(self.jobs.stats(self.now()))
