"""What it takes until something is to be seen: the import, the help, a notebook of the 30s on stored toy runs."""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TRAIN = """
from kdnb.data import splits as data
from kdnb.experiment import obtain
from kdnb.experiment.points import compare_points
for task in ("rt",):
    toy = data.load(task, "toy")
    obtain.run_points(compare_points(task, "toy", toy.fingerprint, (0, 1)), toy, lambda line: None)
"""
NOTEBOOK = (
    "import sys; sys.argv = 'kdnb run 30_kd_vs_ls -p profile=toy'.split(); from kdnb.cli.main import main; main()"
)
EMPTY = """
import sys
import nbformat, papermill
notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("pass")])
notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
nbformat.write(notebook, sys.argv[1] + ".in.ipynb")
papermill.execute_notebook(sys.argv[1] + ".in.ipynb", sys.argv[1], kernel_name="python3", progress_bar=False)
"""
IMPORT = "import time; t = time.perf_counter(); import kdnb; print(time.perf_counter() - t)"
HELP = "import sys; sys.argv = ['kdnb', '--help']; from kdnb.cli.main import main; main()"


def main() -> None:
    """Print the seconds of each, several times over, interleaved."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kdnb-bench-") as scratch:
        environment = {**os.environ, "KDNB_OUTPUTS": scratch, "IPYTHONDIR": f"{scratch}/ipython"}
        run(TRAIN, environment)
        target = str(Path(scratch, "executed.ipynb"))
        commands = {
            "bare Python": "pass",
            "kdnb --help": HELP,
            "empty notebook through papermill": EMPTY,
            "notebook 30 on stored toy runs": NOTEBOOK,
        }
        for code in commands.values():
            run(code, environment, target)  # byte code and file cache
        found = {name: [] for name in ("import kdnb", *commands)}
        for _ in range(options.repeats):
            found["import kdnb"].append(float(run(IMPORT, environment)[1]))
            for name, code in commands.items():
                found[name].append(run(code, environment, target)[0])
    print(json.dumps({"seconds": found}))


def run(code: str, environment: dict, *arguments: str) -> tuple[float, str]:
    """Seconds of a fresh Python process, and what it printed."""
    started = time.perf_counter()
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    seconds = time.perf_counter() - started
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])
    return seconds, done.stdout


if __name__ == "__main__":
    main()
