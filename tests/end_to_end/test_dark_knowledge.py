"""What README says beyond the two papers, from the committed records by numpy and scipy; verdicts from the ledger.

Each of the ledger's effects on digits is computed anew: H10.1, H10.2a, H10.2b, H10.3, H10.4, H11.1-H11.2, H11.2b,
H11.3a, H11.3b, H11.3c, H11.4a, H11.4b, H11.5-H11.9, H12.1a, H12.1c, H12.2a, H12.3a, H13.1a, H13.1b, H13.1c, H13.1d,
H13.2, H13.3a, H13.3b.
"""

import json
import re

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.special import entr, softmax

from kdnb import paths
from kdnb.analysis import ledger as machinery
from kdnb.analysis.ledger import as_printed
from kdnb.studies import registry
from kdnb.studies.dark_knowledge import born_again
from kdnb.studies.dark_knowledge.grids import GENERATIONS, family

pytestmark = pytest.mark.slow

REFERENCE = paths.ROOT / "outputs" / "reference"
README = " ".join((paths.ROOT / "README.md").read_text(encoding="utf-8").split())
SECTION = README[README.index("### Beyond the two papers") : README.index("### Language models")]
RULES = ["none", "test_optimal", "val_optimal", "prior_match", "prior_match_val", "prior_match_all"]


@pytest.fixture(scope="module")
def ledger():
    """The claims that have records on digits, by id."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paths, "RUNS", paths.ROOT / "none")
        patch.setattr(paths, "REFERENCE", REFERENCE / "runs")
        ours = machinery.ledger(registry.chapters(), {GENERATIONS: born_again.study("digits", "cpu")}, ("H11.",))
        simulated = registry.simulated_ledger(("H10.", "H12.", "H13."))
        firsts = list(born_again._firsts("digits", "cpu"))
    table = pd.concat([simulated, ours]).set_index("id")
    table.attrs["families"] = {
        first.seed: {(m.kind, m.generation): m.config.run_id() for m in family(first)} for first in firsts
    }
    return table


@pytest.fixture(scope="module")
def values(ledger):
    """Claim id -> one effect a seed, from the arrays of the records."""
    return _missing() | _generations(ledger.attrs["families"]) | _little_data() | _data_free()


def configs(kind):
    """(folder, config) of the committed records of a kind, on digits."""
    for path in sorted((REFERENCE / "runs").glob(f"{kind}*/config.json")):
        config = json.loads(path.read_text())
        if config["task"] == "digits":
            yield path.parent, config


def _missing():
    recall = {}
    for folder, config in configs("missingdigit-"):
        if config["width"] == 64:
            single = [i for i, omitted in enumerate(config["omitted"]) if len(omitted) == 1]
            assert len(single) == 10
            with np.load(folder / "arrays.npz") as arrays:
                mean = arrays["recall"][single].astype(float).mean(axis=0)
            for rule, value in zip(RULES, mean, strict=True):
                recall.setdefault((config["method"], config["tau"], rule), {})[config["seed"]] = value
    recall = pd.DataFrame(recall)
    matched, control = recall["kd", 20.0, "prior_match"], recall["hard", 1.0, "test_optimal"]
    cold, warm, hot = (recall["kd", tau, "none"] for tau in (1.0, 4.0, 20.0))
    return {
        "H10.1": matched - 0.95,
        "H10.2a": control - 0.95,
        "H10.2b": matched - control,
        "H10.3": np.minimum(warm - cold, hot - warm),
        "H10.4": matched - recall["ls", 1.0, "test_optimal"],
    }


def _generations(families):
    rows = {}
    for seed, members in families.items():
        p, labels = {}, None
        for place, name in members.items():
            folder = REFERENCE / "runs" / name
            data = json.loads((folder / "config.json").read_text())["data"]
            with np.load(folder / "arrays.npz") as arrays, np.load(REFERENCE / "labels" / f"{data}.npz") as of_data:
                p[place], labels = softmax(arrays["test"].astype(float), axis=1), of_data["test"]
        right = {place: (one.argmax(axis=1) == labels).mean() for place, one in p.items()}
        nll = {place: -np.log(one[np.arange(len(labels)), labels]).mean() for place, one in p.items()}
        line = [("first model", 0), *(("BAN", i) for i in range(1, 6))]
        gains = np.diff([right[place] for place in line])
        entropy = [entr(p[place]).sum(axis=1).mean() for place in line]
        erm = [("ERM", i) for i in (1, 2, 3)]

        def together(places, p=p, labels=labels):
            return (np.mean([p[place] for place in places], axis=0).argmax(axis=1) == labels).mean()

        ban, first, company = ("BAN", 1), ("first model", 0), together(line[1:4])
        rows[seed] = {
            "H11.1": gains[0] - max(gains[1:]),
            "H11.2": sum(gains[:3]) - sum(gains[3:]),
            "H11.2b": min(gains),
            "H11.3a": company - max(right[place] for place in line[1:4]),
            "H11.3b": company - together(erm),
            "H11.3c": company - together([first, *erm]),
            "H11.4a": right["DKPP", 1] - right[first] - (right[ban] - right[first]) / 2,
            "H11.4b": right["DKPP", 1] - right["CWTM", 1],
            "H11.5": stats.linregress(range(6), entropy).slope,
            "H11.6": nll["LS as soft", 1] - nll[ban],
            "H11.7": nll["LS as soft each", 1] - nll[ban],
            "H11.8": right["BAN+L", 1] - right[ban],
            "H11.9": nll["LS as drawn", 1] - nll["LS as soft each", 1],
        }
    return dict(pd.DataFrame(rows).T)


def _little_data():
    rows = []
    for folder, config in configs("little-digits-"):
        with np.load(folder / "arrays.npz") as arrays:
            accuracy = dict(zip(config["arms"], arrays["right"].mean(axis=1, dtype=float), strict=True))
        taken = -(-config["rows"] // 32) * config["epochs"]
        rows.append({"seed": config["seed"], "rows": config["rows"], "steps": taken, **accuracy})
    table = pd.DataFrame(rows).set_index(["seed", "rows"])
    table["gain"] = (table["hidden, uniform"] + table["RKD"]) / 2 - table["ERM"]
    equal = table[table.steps == 640].gain.unstack()
    table = table[(table.steps < 640) | (table.index.get_level_values("rows") == 1000)]
    gain = table.gain.unstack()
    learned = (table["hidden, learned"] - table["hidden, uniform"]).unstack()
    return {
        "H12.1a": gain[50] - gain[1000],
        "H12.1c": equal[50] - equal[1000],
        "H12.2a": learned.mean(axis=1) + 0.01,
        "H12.3a": (table["RKD"] - table["ERM"]).unstack()[50],
    }


def _data_free():
    rows = []
    for folder, config in configs("datafree-"):
        with np.load(folder / "arrays.npz") as arrays:
            last, spread = arrays["accuracy"][:, -1].astype(float), -arrays["information"][:, -1].astype(float)
        for i, arm in enumerate(config["arms"]):
            rows.append({"seed": config["seed"], "K": config["classes"], "arm": arm, "last": last[i], "H": spread[i]})
    table = pd.DataFrame(rows).pivot(index="seed", columns=["arm", "K"], values=["last", "H"]).sort_index(axis=1)
    ten = {arm: table["last", arm, 10] for arm in ("real data", "noise", "DAFL", "DFAD")}
    gaps = {arm: table["last", "real data"] - table["last", arm] for arm in ("DAFL", "DFAD")}
    slope = {
        arm: gap.apply(lambda row: 100 * stats.linregress(row.index, row).slope, axis=1) for arm, gap in gaps.items()
    }
    return {
        "H13.1a": ten["DAFL"] - ten["noise"],
        "H13.1b": ten["DFAD"] - ten["noise"],
        "H13.1c": ten["real data"] - ten["DAFL"],
        "H13.1d": ten["real data"] - ten["DFAD"],
        "H13.2": table["H", "DAFL, no information term", 10] - table["H", "DAFL", 10],
        "H13.3a": slope["DAFL"],
        "H13.3b": slope["DFAD"],
    }


def interval(effects):
    """Mean and 95 % t interval."""
    half = stats.t.ppf(0.975, len(effects) - 1) * stats.sem(effects)
    return np.mean(effects), np.mean(effects) - half, np.mean(effects) + half


def test_the_ledgers_effects_are_numpys(ledger, values):
    decided = ledger[ledger.n > 0]
    for claim, effects in values.items():
        row = decided.loc[claim]
        assert (row.effect, row.low, row.high) == pytest.approx(interval(effects), abs=1e-6), claim
        assert row.n == len(effects) == 5


def statements(values, verdicts):
    """What README must say, by topic."""

    def said(claim, unit="points"):
        mean, low, high = (as_printed(x, unit) for x in interval(values[claim]))
        return f"{mean} [{low}, {high}]"

    def verdict(claims, word):
        assert {verdicts[claim] for claim in claims} == {word}, "README's words are of other verdicts"
        return word

    (seeds,) = {len(one) for one in values.values()}
    born = [claim for claim in values if claim.startswith("H11.")]
    left = [claim for claim in born if verdicts[claim] == "undecided"]
    verdict(["H11.2b", "H11.5"], "fails")
    verdict(["H13.1a", "H13.1b"], "undecided")
    verdict(["H10.2b", "H10.3", "H10.4", "H11.9", "H12.1a", "H12.1c", "H12.3a", "H13.1c", "H13.2"], "holds")
    return {
        "seeds": f"on `digits`, {seeds} seeds",
        "unseen": f"a share of it that is {said('H10.1')} from 95 %: {verdict(['H10.1'], 'undecided')}",
        "control": f"at the bias of fewest test errors it has {said('H10.2b')}",
        "smoothed": f"label smoothing at its best test bias it has {said('H10.4')}",
        "temperature": f"rises from tau 1 to 4 to 20, at the smaller step by {said('H10.3')}",
        "generations": f"the smallest gain is {said('H11.2b')}",
        "drift": f"Entropy rises by {said('H11.5', 'nats')} nats a generation",
        "company": f"minus three ERM models {said('H11.3b')} and minus four {said('H11.3c')}, are "
        f"{verdict(['H11.3b', 'H11.3c'], 'undecided')}",
        "left": f"as are {len(left)} of {len(born)} claims in all",
        "drawn": f"have an NLL higher by {said('H11.9', 'nats')} nats",
        "equal steps": f"at equal steps by {said('H12.1c')}",
        "little data": f"on 50 rows than on 1,000, by {said('H12.1a')}",
        "relations": f"RKD alone adds {said('H12.3a')} on 50",
        "learned": f"one is {verdict(['H12.2a'], 'undecided')}: {said('H12.2a')} above that bound",
        "data": f"Students with the data minus DAFL's, {said('H13.1c')}; minus DFAD's, {said('H13.1d')}, is "
        f"{verdict(['H13.1d'], 'undecided')}",
        "noise": f"as are DAFL minus noise, {said('H13.1a')}, and DFAD minus noise, {said('H13.1b')}",
        "information": f"the mean posterior changes by {said('H13.2', 'nats')} nats",
    }


def stale(told):
    return {topic for topic, words in told.items() if words not in SECTION}


def test_readme_says_what_the_records_say(ledger, values):
    told = statements(values, ledger.verdict)
    assert stale(told) == set(), told
    left = SECTION
    for words in told.values():
        left = left.replace(words, "")
    assert not re.findall(r"[+-]\d|\d\.\d|\d of \d", left), "a number that no record is asked for"


TOPICS = {
    "H10.1": "unseen", "H10.2b": "control", "H10.3": "temperature", "H11.2b": "generations", "H11.5": "drift",
    "H10.4": "smoothed", "H11.9": "drawn", "H12.1c": "equal steps",
    "H11.3b": "company", "H11.3c": "company", "H12.1a": "little data", "H12.2a": "learned", "H12.3a": "relations",
    "H13.1a": "noise", "H13.1b": "noise", "H13.1c": "data", "H13.1d": "data", "H13.2": "information",
}  # fmt: skip


@pytest.mark.parametrize(("claim", "topic"), TOPICS.items())
def test_one_seed_that_says_otherwise_is_noticed(ledger, values, claim, topic):
    changed = values[claim].copy()
    changed.iloc[0] += 0.02
    assert topic in stale(statements({**values, claim: changed}, ledger.verdict))


def test_a_verdict_that_changes_is_noticed(ledger, values):
    with pytest.raises(AssertionError, match="other verdicts"):
        statements(values, ledger.verdict.replace("undecided", "holds"))
