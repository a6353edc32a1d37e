"""The exercises of notebook 70: the mode of a coin, two JSDs at their end, a mean of means."""

import math

from kdnb.report.exercises import Exercise, number, parts, word

COIN = -(0.6 * math.log(0.6) + 0.4 * math.log(0.4))  # its entropy [nats]

EXERCISES = {
    "70.1": Exercise(
        amiss=parts(
            mode=number(0.0, within=1e-3, seen={COIN: "What does a diary of modes say, toss after toss?"}),
            draws=number(COIN, within=1e-3, seen={COIN / math.log(2): "In nats, please: that is in bits."}),
        ),
        hint="Write down ten modes, and ten draws. What does a student believe who has read each list?",
        reason="The mode is always heads; draws keep the coin, with all its doubt.",
    ),
    "70.2": Exercise(
        amiss=parts(
            reverse_KL=word("interp_jsd", ("gjsd", "interp_jsd")),
            the_other=number(0.0, within=1e-6),
        ),
        hint="`divergence(name, q.log(), p.log(), beta=1.0)` tells. With m = q, what is each term of the other worth?",
        reason="gjsd is 0 at both ends whatever the student says: a loss like that teaches nothing.",
    ),
    "70.3": Exercise(
        amiss=number((1 / 2) / (1 / 100), seen={99.0: "Compare weights, not lengths.", 2.0: "Compare with 1 / 100."}),
        hint="In the mean of two means the one token weighs a half. And among the hundred?",
        reason="1/2 in place of 1/100: 3 nats are reported where the mean over tokens is 1.04.",
    ),
}
