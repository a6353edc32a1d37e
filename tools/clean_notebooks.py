"""Refuses notebooks that hold outputs or execution counts: those named, as a commit hook names them.

With --fix they are taken out, and nothing else of the file changes but its JSON's indent.
"""

import json
import sys
from pathlib import Path
from typing import Any


def ran(notebook: dict[str, Any]) -> list[int]:
    """Numbers of the code cells that were run, from 1."""
    cells = enumerate(notebook["cells"], 1)
    return [i for i, cell in cells if cell["cell_type"] == "code" and (cell["outputs"] or cell["execution_count"])]


def cleaned(notebook: dict[str, Any]) -> str:
    """The file's text without what running it left."""
    for number in ran(notebook):
        notebook["cells"][number - 1] |= {"outputs": [], "execution_count": None}
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


def main(words: list[str]) -> int:
    """Exit code: 1 if one of the notebooks was run and not fixed."""
    code = 0
    for path in map(Path, (word for word in words if word != "--fix")):
        notebook = json.loads(path.read_text(encoding="utf-8"))
        if cells := ran(notebook):
            if "--fix" in words:
                path.write_text(cleaned(notebook), encoding="utf-8")
            else:
                told = ", ".join(map(str, cells))
                print(f"{path}: outputs in cells {told}; python tools/clean_notebooks.py --fix {path}", file=sys.stderr)
                code = 1
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
