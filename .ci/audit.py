"""Asks for known vulnerabilities of what constraints.txt names, and says what was not asked.

pip-audit takes a package that its database does not know for a good one; here it counts as not
audited. Exit code: 1 for a vulnerability, else 0.
"""

import json
import subprocess
import sys
from typing import Any

COMMAND = [
    "pip_audit", "--requirement", "constraints.txt", "--no-deps", "--disable-pip", "--format",
    "json", "--progress-spinner", "off", "--timeout", "15",
]  # fmt: skip


def verdict(report: dict[str, Any]) -> tuple[list[str], int]:
    """Returns what pip-audit's report means, in lines, and the exit code."""
    packages = report["dependencies"]
    asked = [package for package in packages if "skip_reason" not in package]
    bad = [
        f"{package['name']} {package['version']}: {found['id']}, mended in "
        f"{', '.join(found['fix_versions']) or 'no version'}"
        for package in asked
        for found in package["vulns"]
    ]
    told = [f"{len(asked)} of {len(packages)} packages audited, {len(bad)} known vulnerabilities"]
    if not asked:
        told = [
            "NOT AUDITED: no database of vulnerabilities can be reached that knows the packages"
        ]
    elif left := [package["name"] for package in packages if package not in asked]:
        told.append(f"NOT AUDITED: {', '.join(left)}")
    return bad + told, int(bool(bad))


def main() -> int:
    """Runs pip-audit and prints the verdict."""
    try:
        done = subprocess.run(
            [sys.executable, "-m", *COMMAND], capture_output=True, text=True, timeout=300
        )
        lines, code = verdict(json.loads(done.stdout))
    except (subprocess.TimeoutExpired, ValueError, LookupError, TypeError) as error:
        late = isinstance(error, subprocess.TimeoutExpired)
        why = (
            "no answer in time"
            if late
            else (done.stderr.splitlines() or ["no answer that can be read"])[-1]
        )
        lines, code = [f"NOT AUDITED: {why}"], 0
    print("\n".join(lines))
    return code


if __name__ == "__main__":
    sys.exit(main())
