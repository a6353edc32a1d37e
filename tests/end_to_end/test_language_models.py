"""What README says of language models: verdicts and effects of the ledger, which are computed anew beside the study's
other tests, and the students of a real teacher from their committed arrays by numpy and scipy.

Cited: H14.1a, H14.2, H14.3a, H14.3c, H14.4a, H14.5a, H14.5b, H14.5d, H14.6c, H14.6d.
"""

import json
import re

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from kdnb import paths
from kdnb.analysis.ledger import as_printed
from kdnb.studies import registry
from kdnb.studies.language_models import claims_sparse, cost, prefixes

pytestmark = pytest.mark.slow

REFERENCE = paths.ROOT / "outputs" / "reference" / "runs"
README = " ".join((paths.ROOT / "README.md").read_text(encoding="utf-8").split())
SECTION = README[README.index("### Language models") : README.index("## The notebooks")]
TOLD = {  # the method, where its targets lie, entries kept of each law, how they are learned from -> README's row
    ("erm", None, None): "ERM",
    ("ls", None, None): "LS 0.1",
    ("kd", "hidden", 576): "KD, the teacher's states",
    ("kd", "top_k", 64): "KD, top 64 and the tail's mass",
    ("kd", "top_k", 8): "KD, top 8, renormalised",
    ("kd", "sampled", 8): "KD, 8 draws",
}


@pytest.fixture(scope="module")
def ledger():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paths, "RUNS", paths.ROOT / "none")
        patch.setattr(paths, "REFERENCE", REFERENCE)
        return pd.concat([registry.simulated_ledger((ids,)) for ids in ("H14.", "H21.")]).set_index("id")


@pytest.fixture(scope="module")
def students():
    """README's row -> perplexity, entropy, KL to the teacher [nats] of each seed's student; the cache's bytes a token;
    and the teacher's perplexity and entropy."""
    found = {}
    for path in sorted(REFERENCE.glob("lm-*/config.json")):
        config, metrics = (json.loads((path.parent / name).read_text()) for name in ("config.json", "metrics.json"))
        if config["student"] != "cut-6":
            continue
        method = path.parent.name.split("-")[1]
        with np.load(path.parent / "arrays.npz") as arrays:
            one = {name: arrays[name].mean(dtype=float) for name in arrays.files}
        one |= {"perplexity": np.exp(one["nll"]), "bytes": metrics.get("bytes_per_token", 0)}
        found.setdefault(TOLD[method, metrics.get("storage"), metrics.get("kept")], []).append(one)
    assert {len(seeds) for seeds in found.values()} == {3}
    return found


def interval(values, digits):
    """A mean and its 95 % t interval, unsigned."""
    half = stats.t.ppf(0.975, len(values) - 1) * stats.sem(values)
    mean, low, high = (f"{np.mean(values) + side * half:.{digits}f}" for side in (0, -1, 1))
    return f"{mean} [{low}, {high}]"


def statements(ledger, students):
    """What README must say, by topic."""

    def said(claim):
        row = ledger.loc[claim]
        mean, low, high = (as_printed(x, row.unit) for x in (row.effect, row.low, row.high))
        return f"{mean} [{low}, {high}]"

    def verdict(claims, word):
        assert {ledger.loc[claim].verdict for claim in claims} == {word}, "README's words are of other verdicts"
        return word

    first = ledger[ledger.index.str.startswith("H14.")]
    count = first.verdict.value_counts()
    assert "fails" not in count, "README's words are of other verdicts"
    verdict(["H21.1", "H14.2", "H14.3c", "H14.5a", "H14.5d", "H14.6c", "H14.6d"], "holds")
    assert count["holds"] == 6, "a claim holds of which README says nothing"
    forward, training = cost.forward_ratio(70, 7), cost.training_cost_ratio(70, 7)  # as they are quoted: 70B to 7B
    teacher = next(iter(students.values()))[0]
    told = {
        "count": f"Of {len(first)} claims {count['holds']} hold, {count['undecided']} are undecided and none fails",
        "words": f"the distance of its entropy from the teacher's by {said('H14.2')} nats",
        "mode": f"smooths as LS does is {verdict(['H14.1a', 'H14.1e'], 'undecided')}: against ERM, the text of the "
        f"teacher's mode changes entropy by {said('H14.1a')}",
        "entries": f"The largest {claims_sparse.KEPT} of {prefixes.GeneratedLanguage.vocabulary} entries",
        "ratio": f"{round(forward)} and {training:.2f}, the clock takes the second",
        "sparse": f"surer student than the whole law, by {said('H14.3c')} nats",
        "calibration": f"worse calibrated than draws do is {verdict(['H14.3a'], 'undecided')}: {said('H14.3a')} points",
        "drafts": f"more often than an ERM draft, by {said('H14.4a')} points, is {verdict(['H14.4a'], 'undecided')}",
        "cache": f"costs less than a tenth over ERM is {verdict(['H14.5b'], 'undecided')}",
        "copied": f"lowers KL to the teacher by {said('H14.6c')} nats",
        "family": f"error after fitting is larger by {said('H14.6d')}",
        "teacher": f"teacher's perplexity there is {np.exp(teacher['teacher_nll']):.1f}, its entropy "
        f"{teacher['teacher_entropy']:.3f}",
    }
    (folder,) = REFERENCE.glob("realdrafts-*")
    made = json.loads((folder / "metrics.json").read_text())
    one = json.loads((folder / "config.json").read_text())
    assert made["seconds_assisted"] > made["seconds_target"]
    assert len(one["students"]) == 2
    with np.load(folder / "arrays.npz") as arrays:
        at = one["gammas"].index(4)
        labels, distilled = arrays["tokens"][:, at] / arrays["calls"][:, at]
        alpha = arrays["acceptance"][2]
    told["speaking"] = (
        f"gave {distilled:.2f} tokens per call at four guesses where the formula promises "
        f"{(1 - alpha**5) / (1 - alpha):.2f}, with the draft trained on labels alone {labels:.2f}; by the clock a "
        f"token took {made['seconds_assisted'] / made['seconds_target']:.2f} times as long as without a draft"
    )
    (folder,) = REFERENCE.glob("keptlaws-*")
    kept = json.loads((folder / "config.json").read_text())["kept"]
    with np.load(folder / "arrays.npz") as arrays:
        lost = {
            k: (kl.mean(dtype=float), 100 * tail.mean(dtype=float))
            for k, kl, tail in zip(kept, arrays["kl"], arrays["tail"], strict=True)
        }
    told["top 64"] = (
        f"top 64 with an even tail are a KL of {lost[64][0]:.3f} from its law, {lost[64][1]:.1f} % of the mass outside"
    )
    told["again"] = f"more than one on its own prefixes, by {said('H21.1')} nats of KL to the teacher"
    told["top 8"] = f"top 8 one of {lost[8][0]:.3f}, {lost[8][1]:.1f} % outside"
    for row, seeds in students.items():
        measures = {"perplexity": 1, "entropy": 3, "kl": 3}
        cells = [interval([one[name] for one in seeds], digits) for name, digits in measures.items()]
        told[row] = f"| {row} | {seeds[0]['bytes'] or '–'} | {' | '.join(cells)} |"
    return told


def stale(told):
    return {topic for topic, words in told.items() if words not in SECTION}


def test_readme_says_what_the_records_say(ledger, students):
    told = statements(ledger, students)
    assert stale(told) == set(), "\n".join(told.values())
    left = SECTION
    for words in told.values():
        left = left.replace(words, "")
    assert not re.findall(r"[ \[][+-]\d|\d\.\d\d|\d of \d", left), "a number that no record is asked for"


TOPICS = {
    "H14.1a": "mode", "H14.2": "words", "H14.3a": "calibration", "H14.3c": "sparse", "H14.4a": "drafts",
    "H14.6c": "copied", "H14.6d": "family", "H21.1": "again",
}  # fmt: skip


@pytest.mark.parametrize(("claim", "topic"), TOPICS.items())
def test_an_effect_that_changes_is_noticed(ledger, students, claim, topic):
    changed = ledger.copy()
    changed.loc[claim, "effect"] += 0.002
    assert topic in stale(statements(changed, students))


def test_verdicts_and_students_that_change_are_noticed(ledger, students):
    with pytest.raises(AssertionError, match="other verdicts"):
        statements(ledger.assign(verdict=ledger.verdict.replace("undecided", "fails")), students)
    for name, seeds in students.items():
        changed = {**students, name: [{**seeds[0], "kl": seeds[0]["kl"] + 0.01}, *seeds[1:]]}
        assert stale(statements(ledger, changed)) == {name}
