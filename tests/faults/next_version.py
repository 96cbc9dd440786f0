"""The version that comes after this one, as its files: it writes a column that this one does not know."""

import shutil
from pathlib import Path

from alembic.script import ScriptDirectory

import app
import migrations
from app.database.migrate import alembic_config

STEP = '''"""what the next version keeps of a run"""

import sqlalchemy as sa
from alembic import op

revision = "next"
down_revision = "{before}"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("runs", sa.Column("made_by", sa.Text(), server_default="this version", nullable=False))


def downgrade() -> None:
    op.drop_column("runs", "made_by")
'''
RUN = ("app/exports/models.py", '    __tablename__ = "runs"\n')
COLUMN = (
    '    made_by: Mapped[str] = mapped_column(server_default="this version", default="the next version")\n'
)
STARTED = ("app/worker/process.py", 'log.info("worker.started", ')


def next_version(folder: Path) -> dict[str, str]:
    """Write it there; with these variables a command is of it."""
    for package in (app, migrations):
        source = Path(package.__path__[0])
        shutil.copytree(source, folder / source.name, ignore=shutil.ignore_patterns("__pycache__"))
    step = ScriptDirectory.from_config(alembic_config()).get_current_head()
    (folder / "migrations/versions/next.py").write_text(STEP.format(before=step))
    _extend(folder, *RUN, COLUMN)
    _extend(folder, *STARTED, 'version="next", ')
    return {"PYTHONPATH": str(folder)}


def _extend(folder: Path, name: str, line: str, more: str) -> None:
    text = (folder / name).read_text()
    assert text.count(line) == 1, f"{name} has changed"
    (folder / name).write_text(text.replace(line, line + more))
