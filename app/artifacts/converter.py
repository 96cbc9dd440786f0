"""The process that converts, begun and waited for by `app.artifacts.apart`."""

import os
import resource
import sys
import threading
from pathlib import Path

from app.artifacts.apart import FAILURES, OUTPUTS
from app.artifacts.formats import convert
from app.artifacts.outputs import Format, Unconvertible
from app.artifacts.store import NO_ROOM_NUMBERS, StorageFull


def main(source: str, folder: str, form: str, untyped: str, line_bytes: str, memory: str) -> None:
    """Print the outputs as JSON, or why there are none, which the exit status tells too."""
    threading.Thread(target=_end_with_the_worker, daemon=True).start()
    resource.setrlimit(resource.RLIMIT_DATA, (int(memory), int(memory)))
    try:
        outputs = convert(
            Path(source), Path(folder), Format(form), untyped=untyped, line_bytes=int(line_bytes)
        )
    except Unconvertible as error:
        _fail(error)
    except MemoryError:
        _fail(Unconvertible(f"it needs more than {memory} bytes of memory"))
    except OSError as error:
        if error.errno not in NO_ROOM_NUMBERS:
            raise
        _fail(StorageFull(str(error)))
    else:
        sys.stdout.buffer.write(OUTPUTS.dump_json(outputs))


def _fail(error: Exception) -> None:
    sys.stdout.write(str(error))
    sys.exit(next(status for status, failure in FAILURES.items() if isinstance(error, failure)))


def _end_with_the_worker() -> None:
    """The worker holds the other end and never writes: whatever ends it, ends the reading."""
    os.read(0, 1)
    os._exit(1)


if __name__ == "__main__":
    main(*sys.argv[1:])
