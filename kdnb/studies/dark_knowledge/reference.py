"""Makes this study's records in profile cpu, those that are missing; the committed ones lie in outputs/reference.

    KDNB_OUTPUTS=outputs/reference python -m kdnb.studies.dark_knowledge.reference [WHAT ...]

WHAT is a key of `PARTS`, nothing all of them. Born-again families are runs: `kdnb sweep generations` trains them.
"""

import sys
from collections.abc import Callable
from functools import partial

from kdnb.studies.dark_knowledge.little_data import PLANS


def _temperature() -> None:
    from kdnb.studies.dark_knowledge import temperature

    temperature.study("cpu")


def _missing() -> None:
    from kdnb.studies.dark_knowledge import missing

    for task, profile in missing.SETUPS:
        if profile == "cpu":
            missing.make_all(task, profile)


def _little_data(plan: str) -> None:
    from kdnb.studies.dark_knowledge import little_trainings

    little_trainings.run(plan)


def _data_free() -> None:
    from kdnb.data import splits
    from kdnb.studies.dark_knowledge import data_free

    for one in data_free.experiments({task: splits.load(task, "cpu").fingerprint for task in data_free.TASKS}):
        data_free.obtain(one)


PARTS: dict[str, Callable[[], None]] = {
    "temperature": _temperature,
    "missing digit": _missing,
    **{plan: partial(_little_data, plan) for plan in PLANS},
    "data-free": _data_free,
}


def main(names: list[str]) -> None:
    """Make some parts, in order; exit 2 for a name that is none.

    Args:
        names: keys of `PARTS`; all of them if there are none.
    """
    if unknown := [name for name in names if name not in PARTS]:
        print(f"no part {unknown[0]!r}: expected some of {'; '.join(PARTS)}", file=sys.stderr)
        sys.exit(2)
    for name in names or PARTS:
        PARTS[name]()


if __name__ == "__main__":
    main(sys.argv[1:])
