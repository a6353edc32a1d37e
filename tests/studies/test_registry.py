"""The registry of studies: a study is its folder and its name in one list, and nothing else."""

import subprocess
import sys

import pytest

import kdnb.studies
from kdnb.analysis import simulations
from kdnb.report import notebooks
from kdnb.studies import registry
from kdnb.sweeps import grids
from kdnb.sweeps import grids as axes

STUDY = {
    "__init__": '"""A study of its own."""',
    "claims": """
from kdnb.analysis.ledger import Chapter, Claim, Evidence
from kdnb.analysis.statistics import Effect

def warmer(claim):
    return Effect(0.2, 0.1, 0.3, 4)

CHAPTER = Chapter(
    claims={"Z1.1": Claim(id="Z1.1", statement="It is so", source="ours", test="warmer", evidence="drawn")},
    runless={"warmer": warmer},
    evidence={"drawn": Evidence("drawn on a napkin", lambda study: None)},
    answers={"Z1.1": "it is so"},
)
""",
    "grids": """
from kdnb.sweeps.grids import Grid, points_without_curves, register

points = points_without_curves({"lr": (1e-3, 2e-3)})
register("napkin", Grid(title="two rates", fields=lambda *_: points, arms=("erm_small",)))
""",
    "notebooks": """
def steps(profile):
    return [("99_napkin", {"profile": profile})]
""",
    "simulations": """
from kdnb.analysis.simulations import Simulation

SIMULATIONS = {"Z1.2": Simulation("coins", lambda seeds: [0.5 for _ in seeds])}
""",
}


@pytest.fixture
def study(tmp_path, monkeypatch):
    """A third study in a folder of the test's own."""
    (tmp_path / "napkin").mkdir()
    for name, text in STUDY.items():
        (tmp_path / "napkin" / f"{name}.py").write_text(text)
    monkeypatch.setattr(kdnb.studies, "__path__", [*kdnb.studies.__path__, str(tmp_path)])
    monkeypatch.setattr(registry, "STUDIES", (*registry.STUDIES, "napkin"))
    monkeypatch.setattr(axes, "GRIDS", dict(axes.GRIDS))
    yield
    for name in [name for name in sys.modules if name.startswith("kdnb.studies.napkin")]:
        del sys.modules[name]


def test_a_study_is_read_from_its_folder(study):
    row = registry.ledger(None, ("Z1",), {"drawn": None}).set_index("id").loc["Z1.1"]
    assert (row.verdict, row.effect, row.published) == ("holds", 0.2, "no number")
    assert registry.evidence_kinds()["drawn"].words == "drawn on a napkin"
    assert len(registry.grids()["napkin"].fields("erm_small", "rt", "toy")) == 2
    points = grids.stages("napkin", "rt", "toy", "0" * 16).erm
    assert [point.config.lr for point in points] == [1e-3, 2e-3]
    assert notebooks.Step("99_napkin", {"profile": "toy"}) in notebooks.study_steps("toy")
    assert registry.simulations()["Z1.2"].setting == "coins"


def test_no_word_of_it_is_left_when_it_is_gone():
    assert "napkin" not in registry.grids()
    assert "Z1.1" not in registry.claims()
    assert "99_napkin" not in {step.notebook for step in notebooks.study_steps("toy")}


def test_two_studies_share_no_name(study, monkeypatch):
    grid = axes.GRIDS["table1"]
    axes.register("table1", grid)  # the same one again
    with pytest.raises(ValueError, match=r"two studies register a grid 'table1': Table 1.*; two rates"):
        axes.register("table1", registry.grids()["napkin"])
    monkeypatch.setattr(registry, "STUDIES", ("napkin", "napkin"))
    with pytest.raises(ValueError, match=r"two studies have a claim Z1\.1"):
        registry.ledger(None, others={"drawn": None})


def test_every_part_of_a_study_is_found_by_its_name():
    """A misspelt module would be a study without that part."""
    assert all(list(registry.modules(part)) for part in ("claims", "grids", "simulations", "notebooks"))
    assert len(registry.chapters()) == len(registry.STUDIES)


def test_notebooks_that_train_come_first():
    names = [name for name, _ in registry.notebooks("cpu")]
    assert [name[0] == "2" for name in names] == sorted((name[0] == "2" for name in names), reverse=True)
    assert names.index("50_deviations") > names.index("00_start_here")


@pytest.mark.slow
def test_a_grid_that_is_looked_up_too_early_says_what_to_do():
    code = "from kdnb.sweeps import grids; grids.stages('table1', 'rt', 'toy', '0' * 16)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    message = "unknown grid 'table1': no grid is registered, call kdnb.studies.registry.grids() first"
    assert done.stderr.strip().endswith(message)


@pytest.mark.slow
def test_grids_by_name_need_neither_pandas_nor_torch():
    code = (
        "import sys; from kdnb.studies import registry; registry.grids(); print({'pandas', 'torch'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_simulations_of_a_study_are_run_and_kept(study, store, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(simulations.paths, "SIMULATIONS", tmp_path / "kept")
    monkeypatch.setattr(simulations.paths, "SIMULATIONS_REFERENCE", tmp_path / "none")
    simulations.simulate(registry.simulations(), [0, 1], ["Z1.2"])
    assert simulations.stored("Z1.2")["effects"] == [0.5, 0.5]
    assert "Z1.2: coins: mean +0.500 over 2 seeds" in capsys.readouterr().out
