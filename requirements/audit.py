"""Whether what is locked has known vulnerabilities.

Exits with 1 if so, and when it cannot tell; where only the advisories are out of reach, it says that.
"""

import json
import subprocess
import sys
from pathlib import Path


def main(lock: str) -> int:
    """Audit a lock file."""
    audit = Path(sys.executable).with_name("pip-audit")
    options = ("--disable-pip", "--require-hashes", "--progress-spinner", "off", "--format", "json")
    done = subprocess.run([audit, "-r", lock, *options], capture_output=True, text=True, check=False)  # noqa: S603
    try:
        packages = json.loads(done.stdout)["dependencies"]
    except ValueError:
        if "ConnectionError" not in done.stderr:
            sys.stderr.write(done.stderr)
            return 1
        sys.stdout.write("Not audited: the advisories are out of reach\n")
        return 0
    audited = [package for package in packages if "skip_reason" not in package]
    vulnerable = [package for package in audited if package["vulns"]]
    for package in vulnerable:
        names = ", ".join(each["id"] for each in package["vulns"])
        sys.stdout.write(f"{package['name']} {package['version']}: {names}\n")
    sys.stdout.write(f"{len(audited)} of {len(packages)} packages audited, {len(vulnerable)} vulnerable\n")
    return 1 if vulnerable else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
