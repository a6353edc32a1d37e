"""Selection on validation: the best point of a grid, per arm and seed. What the test split says is not read here."""

import sys
from collections.abc import Container, Iterable
from dataclasses import dataclass

from kdnb.core import store
from kdnb.core.config import RunConfig
from kdnb.core.methods import Switch
from kdnb.errors import DamagedRun, nearest
from kdnb.experiment.points import Point
from kdnb.sweeps.grids import Stages

METRICS = {"accuracy": 1, "nll": -1}  # sign: accuracy is to be large, the negative log-likelihood small

SETTINGS = tuple(Switch.settings())  # what a switch is: compared, never searched


@dataclass(frozen=True)
class Choice:
    """The selected point of one arm and seed: its validation metric, and out of how many stored and wanted runs."""

    point: Point
    metric: str
    value: float  # accuracy as a share, nll in nats
    stored: int
    wanted: int

    @property
    def complete(self) -> bool:
        """Whether every candidate had a run."""
        return self.stored == self.wanted


def best(points: Iterable[Point], metric: str = "accuracy") -> Choice | None:
    """The point whose stored run is best on validation; None if none has a run. A damaged run is reported and left out.

    Ties go to fewer epochs, then the smaller learning rate, alpha and tau; then to tau^2 scaling.

    Args:
        points: the candidates.
        metric: a key of METRICS.
    Raises:
        ValueError: an unknown metric.
    """
    if metric not in METRICS:
        raise ValueError(f"unknown metric {metric!r}{nearest(metric, METRICS)}")
    scored, damaged, wanted = [], [], list(points)
    for point in wanted:
        try:
            scored.append((store.load_validation(point.config.run_id())[metric], point))
        except FileNotFoundError:
            continue
        except DamagedRun as error:
            damaged.append(str(error))
    if damaged:
        more = f" and {len(damaged) - 1} more" if len(damaged) > 1 else ""
        print(f"kdnb: {damaged[0]}{more}; left out. To redo: kdnb runs verify --redo", file=sys.stderr)
    if not scored:
        return None
    value, point = min(scored, key=lambda pair: (-METRICS[metric] * pair[0], *_order(pair[1].config)))
    return Choice(point, metric, value, len(scored), len(wanted))


def teachers(stages: Stages, stored: Container[str] | None = None) -> dict[tuple[str, int], str]:
    """The teachers of a grid, for `kdnb.sweeps.grids.stages`: always by validation accuracy.

    A sweep trains students of these alone, so these stay the teachers, by whatever metric the students are selected.

    Args:
        stages: the grid's points.
        stored: names of all stored runs, where they are known.
    Returns:
        (model, seed) -> run_id; a teacher is left out until all its candidates have a run.
    """
    if stored is None:
        stored = set(store.stored_ids())
    selected = {}
    for key, points in stages.candidates.items():
        if all(point.config.run_id() in stored for point in points):
            choice = best(points)
            if choice and choice.complete:
                selected[key] = choice.point.config.run_id()
    return selected


def by_arm(points: Iterable[Point], metric: str = "accuracy") -> list[Choice]:
    """The selected point of every arm and seed that has a run, in the order of the points.

    An arm has one selected point a seed, whichever of its teachers taught it. What is no arm is told apart by
    method, student and teacher (the pairs of the ladder) and by SETTINGS (every switch point is one of its own).
    """
    groups: dict[tuple, list[Point]] = {}
    for point in points:
        config = point.config
        models = () if point.arm else (config.method, config.student, config.teacher_run)
        settings = tuple(getattr(config, name) for name in SETTINGS)
        groups.setdefault((point.arm, config.seed, *models, *settings), []).append(point)
    return [choice for group in groups.values() if (choice := best(group, metric))]


def matched_erm(config: RunConfig, points: Iterable[Point] = ()) -> RunConfig:
    """The ERM run with a selected run's model, seed, learning rate and epochs: equal training, plain labels.

    Entropy falls with training time alone, so a selected KD run is held against this one.

    Args:
        config: of the selected run.
        points: where it is looked for first; else it is the run with the same config but for its target, which a
            searched grid has among its ERM points.
    """

    def budget(run: RunConfig) -> tuple:
        return run.task, run.data, run.student, run.seed, run.lr, run.epochs, run.schedule, run.batch_size

    for point in points:
        if point.config.method == "erm" and budget(point.config) == budget(config):
            return point.config
    return config.plain()


def _order(config: RunConfig) -> tuple:
    """What decides between equals, so that a selection never depends on the order of the candidates."""
    return config.epochs, config.lr, config.alpha, config.tau, not config.tau2_scaling, config.run_id()
