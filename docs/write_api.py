"""Writes docs/api.md from the code: the public functions and classes of each room, with their docstrings.

`make docs` runs it. It reads code and notebooks with ast, imports neither kdnb nor torch, and gives the same bytes for
the same code.
"""

import ast
import functools
import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

from draw_architecture import GROUND, ROOT, modules, ranks, room

PAGE = ROOT / "docs" / "api.md"
NOTEBOOKS = ROOT / "notebooks"
LEFT_OUT = ("cli.", "report.answers.")  # commands say it with --help, answers are not to be read in passing
SHORT = "studies."  # whose functions stand by their first words, beside the notebooks that show them at work
LONGEST = 100  # characters of a signature in one line
SECTIONS = ("Args", "Attributes", "Returns", "Raises")

ABOUT = {
    GROUND: "What lies in no room: where things lie, files, errors, and what exists by name.",
    "core": "The method: targets, losses, entropy, the training loop, the store.",
    "data": "The checked splits of any task, and where texts, images and written teachers come from.",
    "models": "Classifiers of texts and images, by a name of the catalog.",
    "experiment": "From arms and points to stored runs and their table.",
    "analysis": "Intervals, verdicts, figures.",
    "sweeps": "Grids, how they are planned, shared out, run and selected from.",
    "studies": "A folder a study: claims, grids, measures. By their first words; what no notebook calls is folded.",
    "report": "Notebooks through papermill, exercises, the report.",
}
FIRST = {
    "how unsure a posterior is": "core.entropy.posterior_entropy",
    "the targets of label smoothing": "core.losses.ls_targets",
    "the loss of distillation": "core.losses.kd_loss",
    "the gradient it gives": "core.theory.kd_gradient",
    "a task's texts and labels": "data.splits.load",
    "settings of a run, and so its name": "core.config.RunConfig",
    "load runs, or train what is missing": "experiment.obtain.run_points",
    "all runs of a task as a table": "experiment.tables.study",
    "one stored run, its bytes checked": "core.store.load",
    "a mean over seeds with its interval": "analysis.statistics.interval",
    "every claim with its verdict": "studies.registry.ledger",
    "a figure that is saved with its data": "analysis.figures.save",
}

Definition = ast.FunctionDef | ast.ClassDef


def definitions(body: list[ast.stmt]) -> list[Definition]:
    """What a module or class defines for others, in its order."""
    return [node for node in body if isinstance(node, Definition) and not node.name.startswith("_")]


@functools.cache
def files() -> dict[str, Path]:
    """Dotted name below kdnb -> file, those left out of the page not among them."""
    return {name: path for name, path in modules().items() if not name.startswith(LEFT_OUT)}


@functools.cache
def parsed(path: Path) -> ast.Module:
    """A module's tree, read once."""
    return ast.parse(path.read_text(encoding="utf-8"))


def shown() -> dict[str, list[Definition]]:
    """Module, in the order of rooms -> what it defines; modules that define nothing for others are left out."""
    order = ranks()
    by_rank = sorted(files(), key=lambda name: (order.index(room(name)), name))
    return {name: found for name in by_rank if (found := definitions(parsed(files()[name]).body))}


def names_used(source: str) -> Iterator[str]:
    """Dotted names below kdnb that code uses, those of modules it imports behind a dot."""
    tree = ast.parse(source)
    known = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "kdnb":
            known |= {name.asname or name.name: f"{node.module}.{name.name}" for name in node.names}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id in known:
            yield known[node.id].removeprefix("kdnb.")
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in known:
            yield f"{known[node.value.id]}.{node.attr}".removeprefix("kdnb.")


@functools.cache
def used_in() -> dict[str, list[str]]:
    """Dotted name -> the notebooks whose code uses it, sorted."""
    found = defaultdict(set)
    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
        for name in names_used(code):
            found[name].add(path.stem)
    return {name: sorted(notebooks) for name, notebooks in found.items()}


def parameters(arguments: ast.arguments, skip_first: bool) -> list[str]:
    """Each parameter with its annotation and default, as the code spells them, with `/` and `*` between."""
    plain = [*arguments.posonlyargs, *arguments.args]
    defaults = [None] * (len(plain) - len(arguments.defaults)) + list(arguments.defaults)
    words = []
    for number, (one, default) in enumerate(zip(plain, defaults, strict=True), 1):
        words.append(parameter(one, default))
        if number == len(arguments.posonlyargs):
            words.append("/")
    words = words[1:] if skip_first else words
    if arguments.vararg:
        words.append(f"*{ast.unparse(arguments.vararg)}")
    elif arguments.kwonlyargs:
        words.append("*")
    words += [parameter(*pair) for pair in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)]
    return words + ([f"**{ast.unparse(arguments.kwarg)}"] if arguments.kwarg else [])


def parameter(argument: ast.arg, default: ast.expr | None) -> str:
    """One parameter as code has it."""
    equals = " = " if argument.annotation else "="
    return ast.unparse(argument) + (f"{equals}{ast.unparse(default)}" if default else "")


def fields_of(node: ast.ClassDef) -> list[str]:
    """A dataclass's fields as parameters; the range and help of a setting are told by `settings_of`."""
    words = []
    for one in node.body:
        if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name) and not one.target.id.startswith("_"):
            kind = ast.unparse(one.annotation)
            if not kind.startswith("ClassVar"):
                words.append(f"{one.target.id}: {kind}" + default_of(one.value))
    return words


def default_of(value: ast.expr | None) -> str:
    """ " = ..." of a field; of one that a call makes, its first argument, which is the default of a setting."""
    if value is None:
        return ""
    if not isinstance(value, ast.Call):
        return f" = {ast.unparse(value)}"
    given = [word.value for word in value.keywords if word.arg in ("default", "default_factory")] or value.args
    return f" = {ast.unparse(given[0])}" if given else ""


def is_dataclass(node: ast.ClassDef) -> bool:
    """Whether a class is decorated as one."""
    return any("dataclass" in ast.unparse(decorator) for decorator in node.decorator_list)


def call(name: str, words: list[str], returns: str = "") -> str:
    """name(words) -> returns, in one line if it is short, else a parameter a line."""
    end = f") -> {returns}" if returns else ")"
    line = f"{name}({', '.join(words)}{end}"
    return line if len(line) <= LONGEST else "\n".join([f"{name}(", *(f"    {word}," for word in words), end])


def signature(node: Definition, of_class: bool = False) -> str:
    """How it is called."""
    if isinstance(node, ast.ClassDef):
        if is_dataclass(node):
            return call(node.name, fields_of(node))
        made = next((one for one in node.body if isinstance(one, ast.FunctionDef) and one.name == "__init__"), None)
        return call(node.name, parameters(made.args, skip_first=True)) if made else node.name
    static = any(ast.unparse(decorator) == "staticmethod" for decorator in node.decorator_list)
    words = parameters(node.args, skip_first=of_class and not static)
    return call(node.name, words, ast.unparse(node.returns) if node.returns else "")


def safe(text: str) -> str:
    """Prose of a docstring for Markdown: what would be taken for markup is escaped, code between backticks is not."""
    parts = re.split(r"(`[^`]+`)", text)
    return "".join(
        part if part.startswith("`") else re.sub(r"([\\*<$]|(?<![^\W_])_|_(?![^\W_]))", r"\\\1", part) for part in parts
    )


def prose(lines: list[str]) -> list[str]:
    """Paragraphs joined to a line each; what is indented stays as it is, as code."""
    written: list[str] = []
    for block in re.split(r"\n\s*\n", "\n".join(lines).strip("\n")):
        rows = block.splitlines()
        while rows:
            indented = rows[0].startswith("    ")
            size = next((i for i, row in enumerate(rows) if row.startswith("    ") != indented), len(rows))
            taken, rows = rows[:size], rows[size:]
            if indented:
                written += ["```text", *(row.removeprefix("    ") for row in taken), "```", ""]
            else:
                written += [safe(" ".join(row.strip() for row in taken)), ""]
    return written


def listed(title: str, lines: list[str]) -> list[str]:
    """A section of a docstring as a list, an argument an item; what is returned as one line."""
    items: list[str] = []
    for line in lines:
        if line.startswith("    ") and not line.startswith("     "):
            items.append(line.strip())
        elif line.strip():
            items[-1] += f" {line.strip()}"
    if title == "Returns":
        return [f"*Returns* {safe(' '.join(items))}", ""]
    told = []
    for item in items:
        name, colon, text = item.partition(": ")
        told.append(f"`{name}`: {safe(text)}" if colon and re.fullmatch(r"[\w.*]+", name) else safe(item))
    if title == "Raises" and len(told) == 1:
        return [f"*Raises* {told[0]}", ""]
    return [f"*{title}*", "", *(f"- {item}" for item in told), ""]


def told(docstring: str) -> list[str]:
    """A docstring as Markdown."""
    parts: list[tuple[str, list[str]]] = [("", [])]
    for line in docstring.splitlines():
        if line.endswith(":") and line[:-1] in SECTIONS:
            parts.append((line[:-1], []))
        else:
            parts[-1][1].append(line)
    written = []
    for title, lines in parts:
        written += listed(title, lines) if title else prose(lines)
    return written


def first_words(node: Definition) -> str:
    """A docstring's first sentence or line, without the colon that may end it."""
    return safe((ast.get_docstring(node) or "").split("\n")[0].rstrip(":"))


def seen(name: str) -> str:
    """Where a reader sees a function at work: links to notebooks; "" if nowhere."""
    notebooks = used_in().get(name, [])
    links = ", ".join(f"[{stem[:2]}](../notebooks/{stem}.ipynb)" for stem in notebooks[:6])
    return f"{links} and {len(notebooks) - 6} more" if len(notebooks) > 6 else links


def methods(node: ast.ClassDef) -> list[str]:
    """A class's own functions and properties, by their first words."""
    items = []
    for one in definitions(node.body):
        if isinstance(one, ast.FunctionDef) and ast.get_docstring(one):
            is_property = any("property" in ast.unparse(decorator) for decorator in one.decorator_list)
            how = (
                one.name
                if is_property
                else " ".join(signature(one, of_class=True).split()).replace("( ", "(").replace(", )", ")")
            )
            items.append(f"- `.{how}`: {first_words(one)}")
    return [*items, ""] if items else []


def in_full(name: str, node: Definition) -> list[str]:
    """A function or class: how it is called, what its docstring says, where it is seen at work."""
    written = [f"#### {safe(node.name)}", "", "```python", signature(node), "```", ""]
    written += told(ast.get_docstring(node) or "")
    written += methods(node) if isinstance(node, ast.ClassDef) else []
    return written + ([f"*Used in* {seen(name)}", ""] if seen(name) else [])


def in_short(name: str, found: list[Definition]) -> list[str]:
    """Functions and classes by their first words: those that notebooks call, then the others, folded."""
    called = [node for node in found if seen(f"{name}.{node.name}")]
    written = [f"- `{node.name}`: {first_words(node)} ({seen(f'{name}.{node.name}')})" for node in called]
    rest = [f"- `{node.name}`: {first_words(node)}" for node in found if node not in called]
    if rest:
        written += ["", f"<details><summary>{len(rest)} that no notebook calls</summary>", "", *rest, "", "</details>"]
    return [*written, ""]


def module_told(name: str, found: list[Definition]) -> list[str]:
    """A module: its docstring, then what it defines."""
    file = files()[name]
    short = name.startswith(SHORT) and name.count(".") > 1
    written = [f"### kdnb.{name}", "", *told(ast.get_docstring(parsed(file)) or "")]
    written += [f"[Source](../{file.relative_to(ROOT).as_posix()})", ""]
    if short:
        return written + in_short(name, found)
    return written + [line for node in found for line in in_full(f"{name}.{node.name}", node)]


def anchor(heading: str) -> str:
    """The link to a heading, as code hosts make it."""
    return "#" + re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def first_steps(pages: dict[str, list[Definition]]) -> list[str]:
    """The dozen to begin with; KeyError for one that is not there."""
    there = {f"{name}.{node.name}": name for name, found in pages.items() for node in found}
    rows = [f"| {want} | [`kdnb.{name}`]({anchor(f'kdnb.{there[name]}')}) |" for want, name in FIRST.items()]
    return ["| to have | call |", "|---|---|", *rows, ""]


def by_folder(names: Iterable[str]) -> dict[str, list[str]]:
    """Room, or room and study -> modules."""
    folders: dict[str, list[str]] = {}
    for name in names:
        folders.setdefault(name.rpartition(".")[0] or GROUND, []).append(name)
    return folders


def page() -> str:
    """The page."""
    pages = shown()
    lines = [
        "# The functions",
        "",
        "What `kdnb` has to offer in Python, by room, with shapes, units and errors. Entropies and losses are in nats,",
        "alpha is the weight of the soft target. [architecture.md](architecture.md) is the map of the rooms,",
        "[glossary.md](glossary.md) has the words, `kdnb --help` the commands. *Made from the code by `make docs`.*",
        "",
        "```python",
        "from kdnb.experiment import tables",
        "",
        'tables.study("rt", "cpu").table  # the committed runs of a task, a row each; no torch is needed to read them',
        "```",
        "",
        *first_steps(pages),
    ]
    rooms: dict[str, list[str]] = {}
    for name in pages:
        rooms.setdefault(room(name), []).append(name)
    for where, names in by_folder(pages).items():
        links = ", ".join(f"[{name.removeprefix(f'{where}.')}]({anchor(f'kdnb.{name}')})" for name in names)
        lines.append(f"- **{where}**: {links}")
    for where, names in rooms.items():
        lines += ["", f"## {where if where == GROUND else f'kdnb.{where}'}", "", ABOUT[where], ""]
        for name in names:
            lines += module_told(name, pages[name])
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).rstrip() + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(PAGE.relative_to(ROOT))
