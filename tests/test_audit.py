"""The audit of what the package needs: what was not asked is not counted as good."""

import importlib.util
from pathlib import Path

SPEC = importlib.util.spec_from_file_location(
    "audit", Path(__file__).parent.parent / ".ci/audit.py"
)
audit = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(audit)

GOOD = {"name": "numpy", "version": "2.4.6", "vulns": []}
UNKNOWN = {"name": "jax", "skip_reason": "Dependency not found on PyPI"}
BAD = {"name": "pillow", "version": "8.0", "vulns": [{"id": "CVE-1", "fix_versions": ["8.1"]}]}


def told(*packages):
    return audit.verdict({"dependencies": packages})


def test_only_what_was_asked_about_counts():
    assert told(GOOD) == (["1 of 1 packages audited, 0 known vulnerabilities"], 0)
    lines, code = told(GOOD, UNKNOWN)
    assert lines == ["1 of 2 packages audited, 0 known vulnerabilities", "NOT AUDITED: jax"]
    assert code == 0
    (line,), code = told(UNKNOWN)
    assert line.startswith("NOT AUDITED") and code == 0


def test_a_vulnerability_fails_and_says_what_mends_it():
    lines, code = told(BAD, UNKNOWN)
    assert lines[0] == "pillow 8.0: CVE-1, mended in 8.1" and code == 1
