"""Grids as pure lists of RunConfigs, and the one way to get their runs: load them, else train them."""

import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from filelock import FileLock

from kdnb import paths, runs
from kdnb.arms import ARMS, arm_config
from kdnb.config import RunConfig
from kdnb.data import TaskData
from kdnb.runs import DamagedRun, Run
from kdnb.tasks import nearest


@dataclass(frozen=True)
class Point:
    """One run to be had: its arm ("" where it is none of ARMS) and its config."""

    arm: str
    config: RunConfig

    @property
    def title(self) -> str:
        """As printed."""
        return ARMS[self.arm].name if self.arm else f"{self.config.method.upper()} {self.config.student}"


def compare_points(
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
        task, profile: keys of TASKS and PROFILES. data: the splits' fingerprint.
        seeds: of initialisation and order. arms: keys of ARMS; their teachers are added.
        changes: RunConfig fields for all arms. arm_changes: arm -> fields, on top.
    Raises:
        ValueError: an unknown arm or field, or a value out of range.
    """
    wanted = with_teachers(arms)
    points = []
    for seed in seeds:
        of_arm = {}
        for arm in wanted:
            teacher = of_arm[ARMS[arm].teacher].run_id() if ARMS[arm].teacher else ""
            fields = {**(changes or {}), **(arm_changes or {}).get(arm, {})}
            try:
                of_arm[arm] = arm_config(
                    arm, task=task, profile=profile, data=data, seed=seed, teacher_run=teacher, **fields
                )
            except TypeError as error:
                raise ValueError(str(error)) from None
        points += [Point(arm, config) for arm, config in of_arm.items()]
    return points


def with_teachers(arms: Iterable[str]) -> list[str]:
    """Arms and their teachers, in the order of ARMS; ValueError for an unknown one."""
    arms = list(arms)
    for arm in arms:
        if arm not in ARMS:
            raise ValueError(f"unknown arm {arm!r}{nearest(arm, ARMS)}")
    needed = set(arms) | {ARMS[arm].teacher for arm in arms}
    first = [arm for arm in ARMS if arm in needed and not ARMS[arm].teacher]
    return first + [arm for arm in ARMS if arm in needed and ARMS[arm].teacher]


def ensure(config: RunConfig, data: TaskData, on_step: Callable | None = None) -> tuple[Run, bool]:
    """The run of a config and whether it was trained now; a stored one is loaded, a damaged one redone.

    Two processes that ask for the same run train it once.

    Raises:
        ValueError: data or teacher do not belong to the config. FileNotFoundError: the teacher has no run.
        StoreError: the outputs folder cannot be written.
    """
    run_id = config.run_id()
    if not runs.exists(run_id):
        runs.check_writable()
    elif (run := _load_or_set_aside(run_id)) is not None:
        return run, False
    locks = paths.RUNS / ".locks"
    locks.mkdir(exist_ok=True)
    with FileLock(locks / f"{run_id}.lock"):
        if runs.exists(run_id) and (run := _load_or_set_aside(run_id)) is not None:
            return run, False
        from kdnb.train import fit  # torch is not needed to load

        teacher = runs.load(config.teacher_run) if config.teacher_run else None
        run = fit(config, data, teacher, on_step)
        runs.save(run)
    return run, True


def run_points(points: list[Point], data: TaskData, say: Callable[[str], None] = print) -> dict[str, Run]:
    """All runs of a list, in its order: run_id -> Run. A line per run, a bar over its steps on a terminal."""
    done = {}
    for number, point in enumerate(points, 1):
        with _Bar(f"{point.title} seed {point.config.seed}") as bar:
            run, trained = ensure(point.config, data, bar.step)
        done[run.run_id] = run
        test, seconds = run.metrics["test"], run.metrics["cost"]["seconds"]
        say(
            f"[{number}/{len(points)}] {point.title:<16} seed {point.config.seed}  "
            f"entropy {test['entropy']:.3f} nats  accuracy {100 * test['accuracy']:.1f} %  "
            + (f"trained in {seconds:.0f} s" if trained else "loaded")
        )
    return done


def _load_or_set_aside(run_id: str) -> Run | None:
    try:
        return runs.load(run_id)
    except DamagedRun as error:
        where = runs.set_aside(run_id)
        print(f"kdnb: {error}; set aside in {where}, training it again", file=sys.stderr)
        return None


class _Bar:
    """A tqdm bar over the steps of one run, on terminals only."""

    def __init__(self, title: str):
        self.title, self.bar = title, None

    def __enter__(self):
        return self

    def step(self, step: int, total: int, _loss) -> None:
        if self.bar is None:
            from tqdm import tqdm

            self.bar = tqdm(total=total, desc=self.title, leave=False, mininterval=0.5, disable=not sys.stderr.isatty())
        self.bar.update(step - self.bar.n)

    def __exit__(self, *_):
        if self.bar is not None:
            self.bar.close()
