"""What is claimed of the missing digit (Hinton et al. 2015, section 3), and how the stored students are tested."""

import pandas as pd

from kdnb.analysis.ledger import SIMULATED, Claim, RunlessTest
from kdnb.analysis.statistics import Effect, over_seeds
from kdnb.studies.dark_knowledge import missing

TASK, PROFILE, DATA = "digits", "cpu", "ec2ab6a4e2a341bc"  # whose students decide
BAR = 0.95  # of recall on the unseen class
_SOURCE = "Hinton et al. 2015, section 3"


def _claim(id: str, statement: str, test: str, words: str, **more) -> Claim:
    more = {"source": _SOURCE, **more}
    return Claim(
        id=id,
        statement=statement,
        test=test,
        test_words=words,
        evidence=SIMULATED,
        unit="points",
        **more,
    )


CLAIMS = {
    claim.id: claim
    for claim in (
        _claim(
            "H10.1",
            "Taught at tau 20 and its bias matched to the prior, a student knows 95 % of a class it never saw",
            "unseen recognised",
            "digits, mean over ten omitted classes: recall after prior matching minus 95 % > 0",
        ),
        _claim(
            "H10.2a",
            "A student of hard labels does not know 95 % of it, not at the bias of fewest errors",
            "control under the bar",
            "the same recall of the control, at the bias with the fewest test errors, < 95 %",
            side=-1,
        ),
        _claim(
            "H10.2b",
            "Taught at tau 20 and with no label for its bias it finds more than the control with the test's",
            "label-free over control",
            "recall at tau 20, prior matched, minus the control's at its best test bias > 0",
        ),
        _claim(
            "H10.3",
            "Before any bias, the higher the temperature the more of the class is known: 1 < 4 < 20",
            "temperature order",
            "mean recall over omitted classes: the smaller of the steps 1 to 4 and 4 to 20 > 0",
        ),
        _claim(
            "H10.4",
            "It is not the softness: label smoothing finds less of the class, at the bias of fewest errors",
            "label-free over LS",
            "recall at tau 20, prior matched, minus that of LS at its best test bias > 0",
            source="our question on the missing digit",
        ),
    )
}


def recalls(table: pd.DataFrame) -> pd.DataFrame:
    """Recall on the unseen class, mean over single omitted classes: a row per seed, columns (method, tau, rule)."""
    base = table[(table.omitted.str.len() == 1) & (table.width == missing.SETUPS[TASK, PROFILE].width)]
    return base.pivot_table(index="seed", columns=["method", "tau", "rule"], values="recall")


def _effect(name: str, recall: pd.DataFrame) -> pd.Series:
    """One value per seed; none for seeds that lack a student of the claim."""

    def of(*column) -> pd.Series:
        return recall.get(column, pd.Series(dtype=float))

    before = {tau: of("kd", tau, "none") for tau in (1.0, 4.0, 20.0)}
    matched, control = of("kd", 20.0, "prior_match"), of("hard", 1.0, "test_optimal")
    smoothed, steps = of("ls", 1.0, "test_optimal"), [before[4.0] - before[1.0], before[20.0] - before[4.0]]
    values = {
        "unseen recognised": matched - BAR,
        "control under the bar": control - BAR,
        "label-free over control": matched - control,
        "label-free over LS": matched - smoothed,
        "temperature order": pd.concat(steps, axis=1).min(axis=1, skipna=False),
    }
    return values[name].dropna()


def _test(claim: Claim) -> Effect:
    table = missing.stored_study(TASK, PROFILE, DATA)
    if table.empty:
        return Effect()
    return over_seeds(_effect(claim.test, recalls(table)), claim.sign, list(dict.fromkeys(table.run_id)))


RUNLESS: dict[str, RunlessTest] = {claim.test: _test for claim in CLAIMS.values()}
