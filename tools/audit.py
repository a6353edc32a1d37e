"""Asks PyPI whether a locked package has a known vulnerability: `make audit`. Needs a network.

pip-audit calls a package that the service does not know "skipped", and a list of nothing but those clean; here what was
not looked up is counted and told. Exit code 1: a vulnerability was found; 2: nothing could be looked up (0 with
--if-reachable, for machines that have no way to the service).
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
LOCKS = ("requirements.lock", "requirements-torch.lock")


def looked_up() -> list[dict[str, Any]] | None:
    """What pip-audit says of each package for this system; None if it has no answer."""
    words = [sys.executable, "-m", "pip_audit", "--disable-pip", "--require-hashes", "--progress-spinner", "off"]
    words += ["--format", "json", *(word for lock in LOCKS for word in ("--requirement", lock))]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    try:
        return json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        return None


def verdict(packages: list[dict[str, Any]] | None) -> tuple[int, list[str]]:
    """Exit code and lines: each vulnerability, then how many packages were asked about."""
    asked = [one for one in packages or [] if "vulns" in one]
    if not asked:
        return 2, ["audit: the vulnerability service of PyPI gave no answer; nothing was looked up"]
    lines = []
    for one in asked:
        for found in one["vulns"]:
            fixed = ", ".join(found["fix_versions"]) or "no version yet"
            lines.append(f"{one['name']} {one['version']}: {found['id']}, fixed in {fixed}")
    missed = len(packages or []) - len(asked)
    told = f"audit: {len(asked)} packages looked up, {len(lines)} known vulnerabilities"
    return int(bool(lines)), [*lines, told + (f", {missed} packages the service does not know" if missed else "")]


if __name__ == "__main__":
    code, lines = verdict(looked_up())
    print(*lines, sep="\n")
    sys.exit(0 if code == 2 and "--if-reachable" in sys.argv else code)
