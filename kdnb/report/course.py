"""The map of the notebooks: what each says of itself, in one table, and three routes through them.

`python -m kdnb.report.course` writes it into notebook 00; a test holds that cell to it.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path

from kdnb import files, paths

DECADES = {
    "0": "orientation",
    "1": "theory: closed form, no data",
    "2": "training: they write runs, minutes at profile `demo`",
    "3": "results: they read runs",
    "4": "who teaches whom, and what a teacher is",
    "5": "where a student leaves its teacher: toys are trained on the page",
    "6": "dark knowledge: temperature, missing classes, generations, features, no data",
    "7": "language models",
}
ROUTES = {  # what is read, in order; a group has read 00 at home
    "One evening, alone": ("00_start_here", "10_entropy_of_targets", "30_kd_vs_ls"),
    "Four evenings, a group": (
        "10_entropy_of_targets",
        "30_kd_vs_ls",
        "40_reverse_kd",
        "42_two_things_in_one_loss",
    ),
    "Theory, no runs": (
        "00_start_here",
        "10_entropy_of_targets",
        "12_kl_and_limits",
        "52_eigendirections",
        "53_gradient_denoising",
    ),
}
_MINUTES = {"two": 2, "three": 3, "five": 5, "ten": 10, "fifteen": 15, "twenty": 20}


@dataclass(frozen=True)
class Page:
    """A notebook as its first cells describe it.

    Attributes:
        name: file name without ".ipynb".
        title: "NN · question".
        before: names of the notebooks to be read first.
        minutes: of an evening with it, the sum of its leader's box.
    """

    name: str
    title: str
    before: tuple[str, ...]
    minutes: int

    @property
    def link(self) -> str:
        """Number and file, as Markdown beside the other notebooks."""
        return f"[{self.name[:2]}]({self.name}.ipynb)"


def page(path: Path) -> Page:
    """What one notebook says of itself.

    Raises:
        ValueError: it has no title "NN · question", no row "Before this page", or no minutes in its leader's box.
    """
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    opening = "\n".join("".join(cell["source"]) for cell in cells[:2] if cell["cell_type"] == "markdown")
    title = re.match(r"# (\d\d · .+)\n", opening)
    before = re.search(r"^\| Before this page \| (.+) \|$", opening, re.MULTILINE)
    box = opening.partition("<summary>For the one who leads")[2].lower()
    minutes = re.findall(rf"\b({'|'.join(_MINUTES)})(?: minutes)? for\b", box)
    if not title or not before or not minutes:
        wanted = "a title `# NN · question`, a row `Before this page` and a leader's box with minutes"
        raise ValueError(f"{path.name}: expected in its first cells {wanted}")
    linked = tuple(re.findall(r"\((\d\d_\w+)\.ipynb\)", before[1]))
    return Page(path.stem, title[1], linked, sum(map(_MINUTES.__getitem__, minutes)))


def pages() -> dict[str, Page]:
    """Every notebook by its name, in order."""
    return {path.stem: page(path) for path in sorted(paths.NOTEBOOKS.glob("*.ipynb"))}


def markdown() -> str:
    """The map: routes first, then a row per notebook with its question, what to read before it, and minutes."""
    all_pages = pages()
    start = next(iter(all_pages.values()))
    lines = ["## The collection", "", "**Three routes.** The minutes are those of the leaders' boxes.", ""]
    for name, route in ROUTES.items():
        steps = " → ".join(all_pages[one].link for one in route)
        at_home = "" if start.name in route else f"{start.link} at home, then "
        lines.append(f"- **{name}:** {at_home}{steps} ({sum(all_pages[one].minutes for one in route)} minutes)")
    lines += ["", "With a task of your own: [20](20_finetune.ipynb) first, then [30](30_kd_vs_ls.ipynb).", ""]
    lines += ["| notebook and its question | read before it | minutes |", "|---|---|---|"]
    decade = ""
    for one in all_pages.values():
        if one.name[0] != decade:
            decade = one.name[0]
            lines.append(f"| **{decade}0s · {DECADES[decade]}** | | |")
        before = ", ".join(all_pages[name].link for name in one.before)
        lines.append(f"| [{one.title}]({one.name}.ipynb) | {before} | {one.minutes} |")
    lines += [
        "",
        "What reads runs reads the committed reference runs (profile `cpu`), unless `profile` names others.",
    ]
    return "\n".join(lines)


def write(path: Path) -> None:
    """Put the map into the cell "map" of a notebook; nothing else of it changes."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    (cell,) = (cell for cell in notebook["cells"] if cell["id"] == "map")
    cell["source"] = markdown().splitlines(keepends=True)
    files.write_atomically(path, (json.dumps(notebook, indent=1, ensure_ascii=False) + "\n").encode())


if __name__ == "__main__":
    write(paths.NOTEBOOKS / "00_start_here.ipynb")
