"""How long a list of trainings will still take, told from what those that are done took on this machine."""

from kdnb.catalog import model_behind
from kdnb.core import store
from kdnb.experiment import weights
from kdnb.experiment.points import Point
from kdnb.plain import duration


class Pace:
    """What trainings take, by model; what is stored is loaded and takes no time."""

    def __init__(self, groups: list[list[Point]], keep: bool = False, workers: int = 1):
        """Look at what is stored.

        Args:
            groups: the points of each training, as `kdnb.experiment.points.trainings`.
            keep: whether weights are kept, for which a stored run is trained once more.
            workers: trainings at a time.
        """
        self.workers = workers
        self.left = {_name(group): group for group in groups if not all(_made(point, keep) for point in group)}
        self.seconds: dict[str, float] = {}  # of an epoch, by model, in its last training: the first one starts up

    def after(self, group: list[Point], seconds: float) -> str:
        """What there is to add to the line of a training that is done; "" until each model was trained once.

        Args:
            group: its points.
            seconds: it took, with all that belongs to it.
        """
        if self.left.pop(_name(group), None) is None:
            return ""
        self.seconds[model_behind(group[0].config)] = seconds / epochs(group)
        models = {model_behind(other[0].config) for other in self.left.values()}
        if not models or models - set(self.seconds):
            return ""
        left = sum(epochs(other) * self.seconds[model_behind(other[0].config)] for other in self.left.values())
        return f"; about {duration(left / min(self.workers, len(self.left)))} to go"


def _name(group: list[Point]) -> str:
    return group[0].config.training()


def epochs(group: list[Point]) -> int:
    """Of the training that gives a group's runs: one serves all their epoch counts."""
    return max(point.config.epochs for point in group)


def _made(point: Point, keep: bool) -> bool:
    """Whether there is nothing left to train for a point."""
    run_id = point.config.run_id()
    kept = not keep or point.given or weights.is_there(run_id)
    return store.exists(run_id) and kept
