"""A run by a name that is none: the user's own runs are named first, and few."""

import dataclasses

import numpy as np
import pytest

from kdnb import paths
from kdnb.core import store as runs
from kdnb.core.config import Identity
from kdnb.experiment import records

OWN = [f"own-reviews-erm-small-s{seed}-{seed}00000000000" for seed in range(8)]
COMMITTED = [f"rt-erm-small-s{seed}-{seed}00000000000" for seed in range(30)]


@pytest.fixture
def both(store):
    """Folders of some runs of one's own and of more that are committed; what a name is looked up in has no more."""
    for folder, names in ((paths.RUNS, OWN), (paths.REFERENCE, COMMITTED)):
        for name in names:
            (folder / name).mkdir(parents=True)


def listed(message):
    """The names in a message, in order."""
    return [name for name in message.partition("(known: ")[2].replace(",", "").split() if name in OWN + COMMITTED]


def test_ones_own_runs_come_first_and_a_few_are_named(both):
    told = records.nearest_runs("own-revews-erm-small-s3-300000000000")
    assert "did you mean 'own-reviews-erm-small-s3-300000000000'?" in told
    names = listed(told)
    assert names[0] == OWN[3]
    assert [name in OWN for name in names] == [True] * 3 + [False] * 3
    assert told.endswith(" and 32 more, see kdnb runs list)")


def test_a_committed_run_is_found_by_a_name_like_it(both):
    told = records.nearest_runs("rt-erm-small-s17-17000000000")
    assert f"did you mean {COMMITTED[17]!r}?" in told
    assert set(listed(told)[:3]) < set(OWN)


def test_a_name_like_none_gets_some(both):
    assert listed(records.nearest_runs("%"))[:3] == OWN[:3]
    assert listed(records.nearest_runs("")) == OWN[:3] + sorted(COMMITTED)[:3]


def test_an_empty_store_has_none(store):
    assert records.nearest_runs("x") == " (known: none)"
    assert records.nearest_runs("larg", ("large", "small")) == "; did you mean 'large'? (known: large)"


MISTYPED = OWN[5].replace("reviews", "revews")
COMMANDS = {
    "show": ["runs", "show", MISTYPED],
    "export": ["export", MISTYPED, "new"],
    "average": ["teachers", "average", MISTYPED, OWN[0]],
    "teacher": ["train", "rt", "--profile", "toy", "--method", "kd", "--teacher", MISTYPED],
    "config": ["train", "--config", MISTYPED],
    "students of language models": ["lm", "export", MISTYPED, "new"],
}


@pytest.mark.parametrize("words", COMMANDS.values(), ids=COMMANDS)
def test_every_command_says_so(both, kdnb, words):
    code, _, err = kdnb(*words)
    assert (code, len(err.splitlines())) == (2, 1), err
    assert MISTYPED in err
    assert f"did you mean {OWN[5]!r}?" in err
    assert err.count("0000000") <= 1 + 1 + 6  # the given one, the closest, and those listed
    assert listed(err)[0] == OWN[5]


def test_a_run_is_no_folder_of_a_model(both, kdnb):
    code, _, err = kdnb("predict", OWN[0], "new.csv")
    assert (code, err) == (2, f"kdnb: {OWN[0]}: a run, expected a folder; kdnb export {OWN[0]} DIR makes one\n")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tried(Identity):
    """An experiment of these tests."""

    seed: int

    def prefix(self):
        return f"tried-s{self.seed}"


def test_a_damaged_record_is_told_and_left_out(store, capsys):
    experiments = [Tried(seed=seed) for seed in range(3)]
    for one in experiments[:2]:
        runs.write(one, {"x": np.arange(one.seed)}, {"n": one.seed})
    (store / experiments[0].run_id() / "arrays.npz").write_bytes(b"odd")
    assert list(records.those_stored(experiments)) == experiments[1:2]
    (line,) = capsys.readouterr().err.splitlines()
    assert experiments[0].run_id() in line
    assert "left out" in line


@pytest.mark.parametrize("read", [runs.read, runs.load, runs.read_metrics])
def test_what_is_not_stored_is_told_and_left_out(store, capsys, read):
    assert records.read_if_whole(read, "rt-erm-small-s0-nothing") is None
    assert capsys.readouterr().err.startswith("kdnb: no run 'rt-erm-small-s0-nothing' in ")
