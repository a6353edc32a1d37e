"""A report of runs that nobody trained and a notebook that nobody executed, written once: a site and one file."""

from dataclasses import dataclass
from pathlib import Path

import nbformat
import pandas as pd
import pytest
from fakes import store_arms
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from kdnb import paths
from kdnb.analysis import figures
from kdnb.experiment import tables
from kdnb.report import notebooks, report
from kdnb.studies import registry

ARMS = ("erm_large", "erm_small", "ls_small", "kd_standard")


@dataclass(frozen=True)
class Written:
    """The folder of the report that was written, the runs in its store, and what they say of the claims."""

    outputs: Path
    study: tables.Study
    ledger: pd.DataFrame

    @property
    def site(self) -> Path:
        return self.outputs / "site"

    def page(self, name: str) -> str:
        return (self.site / name).read_text(encoding="utf-8")

    @property
    def one_file(self) -> str:
        return (self.outputs / "report.html").read_text(encoding="utf-8")


def _notebook(study):
    """One that shows a formula, code, a table, a picture, the name of a run, links, and a solution."""
    import matplotlib.pyplot as plt

    ours = tables.spread(study.table, "entropy")
    told = "<br>".join(f"{row.name} {row.mean:.3f}" for row in ours.itertuples())
    figure = plt.figure(figsize=(9, 3))
    figure.subplots().plot([0, 1])
    picture = {"image/png": figures.png(figure)}
    shown = {"image/png": {"alt": "a line that goes up from zero to one"}}
    cells = [
        new_markdown_cell(
            "# 10 · The entropy of targets\n\nEntropy $H(p) = -\\sum_k p_k \\ln p_k$ and `$HOME` in code.\n\n"
            "$$\\frac{a}{b} < 1$$\n\nNext: [30](30_kd_vs_ls.ipynb), [the page itself](10_entropy_of_targets.ipynb), "
            "[glossary](../docs/glossary.md).\n\n| | |\n|---|---|\n| Time | a minute |"
        ),
        new_code_cell(
            "print(run_id)  # a comment\nx = 'text' * 3",
            id="made",
            outputs=[new_output("stream", text=f"made by {next(iter(study.runs))}\n")],
        ),
        new_code_cell("table", id="table", outputs=[new_output("display_data", {"text/html": f"<p>{told}</p>"})]),
        new_code_cell("ledger", id="claims", outputs=[new_output("stream", text="H3.1: undecided\n" + "wide " * 60)]),
        new_code_cell("fig", id="fig", outputs=[new_output("display_data", picture, metadata=shown)]),
        new_markdown_cell("the worked answer", metadata={"tags": ["solution"]}),
        new_code_cell("answer", outputs=[new_output("stream", text="42\n")], metadata={"tags": ["solution"]}),
    ]
    return new_notebook(cells=cells, metadata={"kdnb": {"seconds": 2.5}})


@pytest.fixture(scope="session")
def written(tmp_path_factory):
    """The report, written."""
    outputs = tmp_path_factory.mktemp("report")
    with pytest.MonkeyPatch.context() as patch:
        for name, where in {"RUNS": "runs", "EXECUTED": "executed", "REPORT": "report.html", "SITE": "site"}.items():
            patch.setattr(paths, name, outputs / where)
        for name in ("REFERENCE", "SIMULATIONS", "SIMULATIONS_REFERENCE", "REPORTS"):
            patch.setattr(paths, name, outputs / "none")
        patch.setattr(paths, "OUTPUTS", outputs)
        registry.grids()
        store_arms(ARMS)
        study = tables.study("rt", "toy")
        step = next(step for step in notebooks.study_steps("toy") if step.notebook == "10_entropy_of_targets")
        step.output.parent.mkdir()
        nbformat.write(_notebook(study), step.output)
        assert report.write("toy") == outputs / "report.html"
        return Written(outputs, study, registry.ledger(study, others=registry.evidence(study)))
