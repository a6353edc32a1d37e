"""Points: the runs of one comparison as pure lists of configs, teachers before their students."""

from collections.abc import Iterable
from dataclasses import dataclass

from kdnb.catalog import AS_IT_IS
from kdnb.core.config import RunConfig
from kdnb.errors import nearest
from kdnb.experiment.arms import ALL, ARMS, GIVEN, NAMES, WRITTEN, arm_config


@dataclass(frozen=True)
class Point:
    """One run: its arm (a key of `arms.NAMES`, "" for none) and its config."""

    arm: str
    config: RunConfig

    @property
    def given(self) -> bool:
        """Whether it is a finished classifier, which is asked as it is and not trained."""
        return self.config.model.startswith(AS_IT_IS)

    @property
    def title(self) -> str:
        """As printed."""
        if self.config.method == "switch":
            return f"{self.config.before.upper()} to {self.config.after.upper()} at {self.config.switch_at:g}"
        if self.given:
            return GIVEN
        if self.arm:
            return NAMES[self.arm]
        changed = "".join(f" {value}" for _, value in self.config.extra)  # of a method outside the core
        return f"{self.config.method.upper()}{changed} {self.config.student}"


def compare_points(  # noqa: PLR0913 - a comparison and what it changes
    task: str,
    profile: str,
    data: str,
    seeds: Iterable[int],
    arms: Iterable[str] = tuple(ARMS),
    changes: dict | None = None,
    arm_changes: dict[str, dict] | None = None,
) -> list[Point]:
    """The runs of one comparison, seed by seed, every teacher before its students.

    Args:
        task: a key of TASKS.
        profile: a key of PROFILES.
        data: the splits' fingerprint.
        seeds: of initialisation and order; one that is repeated is taken once.
        arms: keys of ALL; their teachers are added.
        changes: RunConfig fields for all arms.
        arm_changes: arm -> fields, on top.
    Raises:
        ValueError: an unknown arm or field, or a value out of range.
    """
    wanted = with_teachers(arms)
    points = []
    for seed in dict.fromkeys(seeds):
        of_arm: dict[str, RunConfig] = {}
        for arm in wanted:
            teacher = of_arm[ALL[arm].teacher].run_id() if ALL[arm].teacher else ""
            fields = {"teacher_run": teacher, **(changes or {}), **(arm_changes or {}).get(arm, {})}
            if arm in WRITTEN and not fields["teacher_run"]:
                raise ValueError(f"{arm} needs --teacher-table: a file, or a stored teacher (kdnb teachers list)")
            try:
                of_arm[arm] = arm_config(arm, task=task, profile=profile, data=data, seed=seed, **fields)
            except TypeError as error:
                raise ValueError(str(error)) from None
        points += [Point(arm, config) for arm, config in of_arm.items()]
    return list(dict.fromkeys(points))  # a finished classifier has no seed: it is asked once


def with_teachers(arms: Iterable[str]) -> list[str]:
    """Arms and their teachers: those without a teacher first, then those with one, both in the order of ALL.

    Raises:
        ValueError: an unknown arm.
    """
    arms = list(arms)
    for arm in arms:
        if arm not in ALL:
            raise ValueError(f"unknown arm {arm!r}{nearest(arm, ALL)}")
    needed = set(arms) | {ALL[arm].teacher for arm in arms}
    first = [arm for arm in ALL if arm in needed and not ALL[arm].teacher]
    return first + [arm for arm in ALL if arm in needed and ALL[arm].teacher]


def trainings(points: Iterable[Point]) -> list[list[Point]]:
    """The points grouped by the training that gives them, each group where its first point stands, each run once."""
    groups: dict[str, list[Point]] = {}
    for point in {point.config.run_id(): point for point in points}.values():
        groups.setdefault(point.config.training(), []).append(point)
    return list(groups.values())
