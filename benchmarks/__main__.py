"""All benchmarks, or those that are named: `python -m benchmarks slots accepting`.

Each compares with a peer or a limit in the same run. All of them together write docs/benchmarks.md.
"""

import asyncio
import sys

from app.logs import set_up_logs
from app.settings import Settings
from benchmarks.accepting import accepting
from benchmarks.archive import archives
from benchmarks.crowds import claims, starts
from benchmarks.endurance import failover, polling
from benchmarks.page import write_page
from benchmarks.slots import slots

ALL = {each.__name__: each for each in (slots, accepting, starts, claims, polling, failover, archives)}


def main(names: list[str]) -> None:
    set_up_logs(Settings(log_level="warning"))
    results = []
    for name in names or ALL:
        for result in asyncio.run(ALL[name]()):
            print(result, flush=True)
            results.append(result)
    if not names:
        write_page(results)


if __name__ == "__main__":
    main(sys.argv[1:])
