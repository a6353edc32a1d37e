"""Which small changes of kdnb/core its quick tests notice: a random sample of mutmut's mutants. `make mutants`.

    .venv-tools/bin/python tools/mutants.py [HOW MANY]

The sample is the first so many of all mutants in the order that random.Random(0) shuffles them into, so that a larger
one holds a smaller. Its verdicts go to docs/mutants.json; what the survivors are, docs/mutation.md says. The folder
mutants/ keeps the mutants, and each verdict until code or tests change. `mutmut show NAME` shows one.
"""

import json
import os
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOUND = ROOT / "docs" / "mutants.json"
MANY = 200


def run(*names: str) -> None:
    """mutmut on some mutants, with the packages that kdnb is installed with, one process on one thread."""
    (packages,) = ROOT.glob(".venv/lib/python3*/site-packages")
    surroundings = {"PYTHONPATH": str(packages), "OMP_NUM_THREADS": "1", "KDNB_DATA_CACHE": str(ROOT / "data_cache")}
    words = [sys.executable, "-m", "mutmut", "run", "--max-children", "1", *names]
    subprocess.run(words, cwd=ROOT, env={**os.environ, **surroundings}, check=True)


def verdicts() -> dict[str, int | None]:
    """Every mutant's name -> pytest's exit code with it, as mutmut keeps it."""
    found: dict[str, int | None] = {}
    for path in sorted(ROOT.glob("mutants/kdnb/core/*.meta")):
        found |= json.loads(path.read_text(encoding="utf-8"))["exit_code_by_key"]
    return found


def sample(names: list[str], many: int) -> list[str]:
    """So many of some names, by the rule above."""
    shuffled = sorted(names)
    random.Random(0).shuffle(shuffled)
    return shuffled[:many]


def main() -> None:
    """Make all mutants, try the sample, write what came of it."""
    from mutmut.stats import status_by_exit_code

    many = int(sys.argv[1]) if len(sys.argv) > 1 else MANY
    if not verdicts():
        run("kdnb.core.predict.*")
    names = sample(list(verdicts()), many)
    run(*names)
    every = verdicts()
    told = {name: status_by_exit_code[every[name]] for name in names}
    FOUND.write_text(json.dumps({"mutants": len(every), "sample": told}, indent=1) + "\n", encoding="utf-8")
    print(dict(Counter(told.values())), f"of {len(every)} mutants")


if __name__ == "__main__":
    main()
