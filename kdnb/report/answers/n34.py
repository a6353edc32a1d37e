"""The exercises of notebook 34: bins, a calibrated alpha, a temperature fitted where it must not be."""

from kdnb.report.exercises import Exercise, number
from kdnb.studies.label_smoothing import paper

EXERCISES = {
    "34.1": Exercise(
        amiss=number(1, seen={200.0: "There every bin adds the noise of its own mean."}),
        hint="Over- and under-confidence cancel where they fall into the same bin.",
        reason="With one bin the ECE is just the absolute surplus. With many, a perfectly calibrated model looks bad: "
        "every bin adds the noise of its own mean.",
    ),
    "34.2": Exercise(
        amiss=number(
            lambda: 2 * (1 - paper.value(3, "LS", "mrpc") / 100), within=1e-3, seen={0.197: "K = 2: alpha/2 is lost."}
        ),
        hint="1 - alpha + alpha / 2 is what the optimum puts on the label.",
        reason="Well below the selected .9: selection by accuracy did not care, for scaling all logits down leaves "
        "every prediction where it is.",
    ),
    "34.3": Exercise(
        amiss=number(lambda after: after("validation") - after("test"), within=2e-5),
        hint="`nll_after(split)` is the test NLL with a temperature fitted on a split.",
        reason="It can only be positive, and one parameter overfits little: most where validation is smallest. What is "
        "fitted on test is no test all the same.",
    ),
}
