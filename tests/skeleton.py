"""What every notebook keeps to, as functions of its path that fail where it does not."""

import ast
import re

import nbformat

HEADINGS = ["predict first", "reading", "try it yourself"]


def read(path):
    return nbformat.read(path, as_version=4)


def tagged(notebook, tag):
    return [i for i, cell in enumerate(notebook.cells) if tag in cell.metadata.get("tags", [])]


def is_valid_and_clean(path):
    """Valid, and without outputs or attachments."""
    notebook = read(path)
    nbformat.validate(notebook)
    assert notebook.nbformat == 4
    assert notebook.metadata.kernelspec.name == "python3"
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert cell.outputs == []
            assert cell.execution_count is None
        assert not cell.get("attachments")
    assert "widgets" not in notebook.metadata
    assert len({cell.id for cell in notebook.cells}) == len(notebook.cells)


def has_one_cell_of_literal_parameters(path):
    """One cell of parameters, plain literals, before any other code."""
    notebook = read(path)
    (place,) = tagged(notebook, "parameters")
    cell = notebook.cells[place]
    assert cell.cell_type == "code"
    assert all(other.cell_type == "markdown" for other in notebook.cells[:place])
    names = []
    for statement, line in zip(ast.parse(cell.source).body, filter(None, cell.source.splitlines()), strict=True):
        target = statement.target if isinstance(statement, ast.AnnAssign) else statement.targets[0]
        names.append(target.id)
        ast.literal_eval(statement.value)
        assert line.count("=") == 1, "papermill's parser skips a line with a second equals sign"
        assert "|" not in line.split("=")[0], "papermill's parser cannot read a union"
    assert "profile" in names


def shows_papermill_its_parameters(path):
    """Papermill's own parser sees every parameter."""
    import papermill

    notebook = read(path)
    source = notebook.cells[tagged(notebook, "parameters")[0]].source
    assert set(papermill.inspect_notebook(str(path))) == set(re.findall(r"^(\w+)", source, re.MULTILINE))


def keeps_the_skeleton(path):
    """Question and time first, the headings in order, solutions last."""
    notebook = read(path)
    first = notebook.cells[0]
    assert first.cell_type == "markdown"
    assert first.source.startswith("# ")
    opening = " ".join(cell.source for cell in notebook.cells[: tagged(notebook, "parameters")[0]])
    assert "question" in opening.lower()
    assert re.search(r"second|minute", opening.lower()), "time needed"
    found = [
        line.lstrip("#").strip().lower()
        for cell in notebook.cells
        if cell.cell_type == "markdown"
        for line in cell.source.splitlines()
        if line.startswith("#")
    ]
    places = [next((i for i, heading in enumerate(found) if heading.startswith(name)), -1) for name in HEADINGS]
    assert -1 not in places, dict(zip(HEADINGS, places, strict=True))
    assert places == sorted(places)
    solutions = tagged(notebook, "solution")
    assert any(notebook.cells[i].cell_type == "code" for i in solutions)
    exercises = next(
        i
        for i, cell in enumerate(notebook.cells)
        if cell.cell_type == "markdown" and re.match(r"#+ try it yourself", cell.source.lower())
    )
    assert min(solutions) > exercises


def has_short_cells(path):
    """15 lines a cell beside its imports; one exception is enough."""
    sources = [cell.source.splitlines() for cell in read(path).cells if cell.cell_type == "code"]
    assert max(map(len, sources)) <= 25
    lengths = [sum(not line.startswith(("import ", "from ")) for line in lines) for lines in sources]
    assert sum(length > 15 for length in lengths) <= 1, "15 lines a cell; one exception is enough"


def spells_no_path_and_fetches_nothing(path):
    """No path, no download, no shell."""
    for cell in read(path).cells:
        if cell.cell_type == "code":
            for word in ("getcwd", "open(", "../", "requests.", "urlopen", "pip install", "!", "%cd"):
                assert not re.search(rf"(^|[^=\w]){re.escape(word)}(?!=)", cell.source, re.MULTILINE), word


def links_to_notebooks_that_are_there(path):
    """Every link to a notebook beside it names one."""
    for cell in read(path).cells:
        if cell.cell_type == "markdown":
            for name in re.findall(r"\]\(([\w./-]+\.ipynb)\)", cell.source):
                assert (path.parent / name).exists(), name


def main_line(notebook):
    """The cells outside the section "More", which is folded when a notebook is opened."""
    more, cells = False, []
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            for line in cell.source.splitlines():
                if line.startswith("## "):
                    more = line == "## More"
        if not more:
            cells.append(cell)
    return cells


def saves(tree, savers=()):
    """How often a syntax tree saves a figure outside of functions, itself or by calling a function that does."""
    nodes = (node for one in tree.body if not isinstance(one, ast.FunctionDef) for node in ast.walk(one))
    called = [ast.unparse(node.func) for node in nodes if isinstance(node, ast.Call)]
    return sum(name == "figures.save" or name in savers for name in called)


def draws(tree):
    """Whether a syntax tree draws: it saves a figure or touches axes."""
    nodes = list(ast.walk(tree))
    touched = {node.value.id for node in nodes if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)}
    return bool(touched & {"plt", "ax"}) or any(
        isinstance(node, ast.Call) and ast.unparse(node.func) == "figures.save" for node in nodes
    )


def trees_of(cells):
    return [(cell, ast.parse(cell.source)) for cell in cells if cell.cell_type == "code"]


def has_three_figures_on_its_main_line(path):
    """More than three are for the section "More"."""
    notebook = read(path)
    functions = [one for _, tree in trees_of(notebook.cells) for one in tree.body if isinstance(one, ast.FunctionDef)]
    savers = {one.name for one in functions if saves(ast.Module(body=one.body, type_ignores=[]))}
    count = sum(saves(tree, savers) for _, tree in trees_of(main_line(notebook)))
    assert count <= 3, f"{count} figures on the main line"


def folds_what_draws(path):
    """Cells that draw are folded in JupyterLab and hidden by their tag elsewhere, and stand after a sentence."""
    visible = 0  # cells of code since the last sentence
    for cell in read(path).cells:
        if cell.cell_type == "markdown":
            visible = 0
            continue
        tree, folded = ast.parse(cell.source), bool(cell.metadata.get("jupyter", {}).get("source_hidden"))
        visible += not folded
        if "solution" in cell.metadata.get("tags", []) or not draws(tree):
            continue
        assert folded, cell.source
        assert "hide-input" in cell.metadata.get("tags", []), cell.source
        assert visible < 2 or not saves(tree), f"what it shows stands in a sentence before it: {cell.source}"


def folds_its_section_more(path):
    """JupyterLab opens a notebook with "More" closed; what follows it is a heading of its rank."""
    for cell in read(path).cells:
        if cell.cell_type == "markdown" and re.match(r"## More\b", cell.source):
            assert cell.source.splitlines()[0] == "## More"
            assert cell.metadata.get("jp-MarkdownHeadingCollapsed") is True


CHECKS = (
    is_valid_and_clean,
    has_one_cell_of_literal_parameters,
    shows_papermill_its_parameters,
    keeps_the_skeleton,
    has_short_cells,
    spells_no_path_and_fetches_nothing,
    links_to_notebooks_that_are_there,
    has_three_figures_on_its_main_line,
    folds_what_draws,
    folds_its_section_more,
)
