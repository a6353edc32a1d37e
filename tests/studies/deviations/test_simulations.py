"""The second paper's part of the ledger: claims as data, H8.1 in closed form, simulations kept and read again."""

import numpy as np
import pytest
from scipy import stats

from kdnb import paths
from kdnb.analysis.ledger import RUNLESS, TESTS
from kdnb.analysis.simulations import simulate as simulate_some
from kdnb.analysis.simulations import stored
from kdnb.analysis.statistics import verdict
from kdnb.cli import main
from kdnb.studies import registry
from kdnb.studies.deviations import simulations
from kdnb.studies.deviations.claims import CHAPTER, CLAIMS
from kdnb.studies.deviations.simulations import SIMULATIONS


@pytest.fixture
def kept(store, tmp_path, monkeypatch):
    """Empty folders for what is simulated, and for what is committed."""
    monkeypatch.setattr(paths, "SIMULATIONS", tmp_path / "simulations")
    monkeypatch.setattr(paths, "SIMULATIONS_REFERENCE", tmp_path / "reference")
    return paths.SIMULATIONS


def ledger():
    return registry.simulated_ledger().set_index("id")


def simulate(seeds, only):
    return simulate_some(registry.simulations(), seeds, only)


def test_claims_are_whole():
    for name, claim in CLAIMS.items():
        assert name == claim.id
        assert claim.statement
        assert claim.words
        assert claim.source
        assert (
            CHAPTER.published(claim) == "no number"
        )  # the paper could not be read: none of its numbers is one of ours
        assert claim.evidence in registry.evidence_kinds()
        assert claim.test in {**TESTS, **RUNLESS, **CHAPTER.tests, **CHAPTER.runless}
    assert {claim.family for claim in CLAIMS.values()} == {"H6", "H7", "H8", "H9"}
    assert set(SIMULATIONS) == {c.id for c in CLAIMS.values() if c.test == "simulation"}


@pytest.mark.parametrize(
    ("low", "high", "word"), [(-1, 1, "undecided"), (0.1, 1, "fails"), (-1, -0.1, "fails"), (0, 1, "undecided")]
)
def test_a_claim_of_no_effect_can_fail_but_never_hold(low, high, word):
    assert verdict(low, high, 0) == word


def test_the_theorem_holds_on_its_grid_with_no_run():
    row = ledger().loc["H8.1"]
    assert row.verdict == "holds"
    assert row.n > 1000
    assert row.effect < 0


def test_what_is_not_simulated_has_no_verdict(kept):
    found = ledger()
    assert (found.verdict.drop("H8.1") == "no runs").all()


@pytest.mark.slow
def test_effects_are_kept_and_give_their_verdict(kept):
    found = simulate([0, 1, 2], ["H9.1", "H9.2"])
    row = ledger().loc["H9.1"]
    effects = found["H9.1"]["effects"]
    assert row.effect == pytest.approx(np.mean(effects))
    assert row.effect == pytest.approx(0.23, abs=0.03)  # an early teacher turns 73 %, a late one none
    assert (row.low, row.high) == pytest.approx(stats.t.interval(0.95, 2, np.mean(effects), stats.sem(effects)))
    assert (row.verdict, row.n, row.signs) == ("holds", 3, "3/3")
    assert found["H9.2"]["effects"] == pytest.approx([0.007] * 3, abs=0.01)  # .819 - .812, the smaller step
    assert found["H9.1"]["cost"]["versions"]["torch"]


@pytest.mark.slow
def test_a_simulation_is_loaded_the_second_time(kept, monkeypatch, capsys):
    simulate([0, 1], ["H9.2"])
    monkeypatch.setattr(simulations, "_measures", None)
    again = simulate([0, 1], ["H9.2"])
    assert capsys.readouterr().out.rstrip().endswith("loaded")
    assert len(again["H9.2"]["effects"]) == 2
    with pytest.raises(TypeError):
        simulate([0, 1, 2], ["H9.2"])  # other seeds: drawn anew


@pytest.mark.slow
def test_committed_effects_are_read_where_there_are_no_own(kept):
    simulate([0, 1], ["H9.2"])
    kept.rename(paths.SIMULATIONS_REFERENCE)
    assert stored("H9.2")["seeds"] == [0, 1]
    assert stored("H9.3") == {}


def test_three_of_four_settings_are_asked_for(monkeypatch):
    """The third largest of four settings decides; a student that only follows two networks does not."""
    shares = {("MLP", 0.0): 0.3, ("MLP", 0.4): 0.2, ("CNN", 0.0): 0.1, ("CNN", 0.4): -0.5}
    monkeypatch.setattr(simulations.eigendirections, "network_curves", lambda network, noise, seeds: (network, noise))
    monkeypatch.setattr(
        simulations.eigendirections,
        "shares_below",
        lambda setting, role: dict.fromkeys((0, 1), shares[setting] * (role == "student")),
    )
    assert SIMULATIONS["H8.2"].effects((0, 1)) == pytest.approx([0.1, 0.1])


def test_the_gain_on_noisy_digits_is_the_students_over_its_controls(monkeypatch):
    from types import SimpleNamespace as Curve

    ends = {
        0.4: {"teacher": 0.5, "student": 0.9, "control": 0.6},
        0.0: {"teacher": 1, "student": 0.97, "control": 0.95},
    }
    monkeypatch.setattr(
        simulations.eigendirections,
        "network_curves",
        lambda _, noise, seeds: [Curve(role=r, seed=s, accuracy=[0, a]) for r, a in ends[noise].items() for s in seeds],
    )
    assert SIMULATIONS["H8.3"].effects((0, 5)) == pytest.approx([0.3 - 0.02] * 2)


@pytest.mark.slow
def test_zeroing_is_compared_with_erm_on_the_same_draw(monkeypatch):
    """Without a mask to tell them apart, both trainings are one, and the effect is exactly 0."""
    monkeypatch.setattr(simulations, "RunningSimilarity", lambda m: None)
    assert SIMULATIONS["H9.3"].effects((3,)) == pytest.approx([0.0], abs=0)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--only", "H9.7"], "unknown simulation 'H9.7'"),
        (["--seeds", ","], "at least one seed"),
        (["--seeds", "x"], "seeds"),
    ],
)
def test_mistakes_are_one_line(kept, monkeypatch, capsys, arguments, told):
    monkeypatch.setattr("sys.argv", ["kdnb", "simulate", *arguments])
    with pytest.raises(SystemExit) as end:
        main.main()
    err = capsys.readouterr().err
    assert end.value.code == 2
    assert told in err
    assert len(err.splitlines()) == 1
