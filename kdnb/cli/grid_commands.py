"""What `kdnb plan` and `kdnb select` do: print for people, return plain data. torch is imported by a probe alone."""

from dataclasses import dataclass

from kdnb.catalog import PROFILES, task_named
from kdnb.core import store
from kdnb.core.config import RunConfig
from kdnb.data import splits
from kdnb.errors import HubUnreachable, MissingAsset, nearest
from kdnb.studies import registry
from kdnb.sweeps import grids, plan, probe, select
from kdnb.sweeps.axes import grid_named, seeds_of

UNKNOWN = "unknown"  # the data's name in points that are only counted


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """A grid, or a part of it, on some tasks: what the options of `plan` and `select` say."""

    grid: str
    tasks: tuple[str, ...]
    profile: str
    seeds: tuple[int, ...]
    arms: tuple[str, ...]
    where: str
    schedule: str

    def stages(self, task: str, fingerprint: str, stored: set[str], metric: str = "accuracy") -> grids.Stages:
        """The points of one task, with the teachers that can be selected from the stored runs."""
        fixed = (self.grid, task, self.profile, fingerprint, self.seeds, self.arms, self.where, self.schedule)
        return grids.stages(*fixed, select.teachers(grids.stages(*fixed, erm_only=True), metric, stored=stored))

    def told(self) -> str:
        """In a line."""
        schedule = self.schedule or grid_named(self.grid).schedule
        seeds = ", ".join(map(str, self.seeds))
        return f"{self.grid}: {grid_named(self.grid).title}; profile {self.profile}, {schedule} schedule, seeds {seeds}"


def wanted(grid: str, hparams: str, tasks, profile: str, seeds, arms, where: str, schedule: str) -> Wanted:
    """The options as one checked object; ValueError names the one that makes no sense."""
    if hparams:
        published = {one.hparams: name for name, one in registry.grids().items() if one.hparams}
        if hparams not in published:
            raise ValueError(f"unknown hparams {hparams!r}{nearest(hparams, published)}")
        if grid and grid != published[hparams]:
            raise ValueError(f"either a grid ({grid}) or --hparams ({hparams}), not both")
        grid = published[hparams]
    if not grid:
        raise ValueError("name a grid, or give --hparams published")
    if profile not in PROFILES:
        raise ValueError(f"unknown profile {profile!r}{nearest(profile, PROFILES)}")
    tasks, seeds = tuple(tasks) or PROFILES[profile].tasks, tuple(seeds) or seeds_of(grid, profile)
    for task in tasks:
        task_named(task)
    return Wanted(
        grid=grid, tasks=tasks, profile=profile, seeds=seeds, arms=tuple(arms), where=where, schedule=schedule
    )


def make_plan(what: Wanted, measure: bool = True) -> dict:
    """Count a grid and estimate what is left of it; prints the plan, returns it as plain data."""
    print(what.told())
    stored, parts, waiting, memory = set(store.stored_ids()), [], 0, []
    for task in what.tasks:
        found = _data(task, what.profile)
        fingerprint = found.fingerprint if found else UNKNOWN
        stages = what.stages(task, fingerprint, stored)
        waiting += sum(map(grids.is_placeholder, (point.config for point in stages.soft)))
        for part in plan.count(task, stages, stored):
            sizes = tuple(map(len, found.splits.values())) if found else task_named(task).sizes
            made = _probe(found, part, what.profile, measure) if sizes and part.done < part.runs else None
            memory += [made.peak_memory_mib] if made else []
            parts.append(plan.estimate(part, made, sizes))
    total = plan.Plan(parts=parts, waiting=waiting, peak_memory_mib=max(memory, default=None))
    _print_parts(total)
    plan.lines(total)
    for task in what.tasks:
        if note := grid_named(what.grid).note(task, what.arms):
            print(f"  {task}: {note}")
    return {"grid": what.grid, "profile": what.profile, "tasks": list(what.tasks), "seeds": list(what.seeds)} | (
        {"schedule": what.schedule or grid_named(what.grid).schedule} | total.to_dict()
    )


def _data(task: str, profile: str) -> splits.TaskData | None:
    """A task's splits; None, with a line, if they are not to be had: its points can still be counted."""
    try:
        return splits.load(task, profile)
    except (MissingAsset, HubUnreachable):
        print(f"  {task}: only counted, since its texts are not on this machine and a run is named by its data")
        return None


def _probe(found, part: plan.Part, profile: str, measure: bool) -> probe.Probe | None:
    """The measurement of a part's student: the one kept, or one made now if that is wanted and possible."""
    kept = probe.kept(part.task, profile, part.student)
    if kept or not (measure and found):
        return kept
    try:
        return probe.probe(found, profile, part.student)
    except RuntimeError as error:  # no weights here, or no memory for them: the plan's counts stand without
        print(f"  {part.student} on {part.task}: not measured: {' '.join(str(error).split())}")
        return None


def _print_parts(total: plan.Plan) -> None:
    from rich.console import Console
    from rich.table import Table

    shown = Table("task", "arm", "runs", "epochs", "trained", "done", "time left")
    for part in total.parts:
        left = "–" if part.seconds is None else plan.told_time(part.seconds)
        counts = (part.runs, part.epochs, part.trained_epochs, part.done)
        name = f"{part.arm} (teachers)" if part.teaches else part.arm
        shown.add_row(part.task, name, *(f"{count:,}" for count in counts), left)
    Console().print(shown)


def make_selection(what: Wanted, metric: str) -> dict:
    """Select each arm's and seed's point on validation; only then read what the test split says of it."""
    print(f"{what.told()}; selected on validation {metric}")
    stored, chosen = set(store.stored_ids()), []
    for task in what.tasks:
        stages = what.stages(task, splits.load(task, what.profile).fingerprint, stored, metric)
        if waiting := sum(map(grids.is_placeholder, (point.config for point in stages.soft))):
            print(f"  {task}: {waiting:,} points wait for a teacher, whose ERM runs are not all done")
        chosen += [
            (one, select.matched_erm(one.point.config, stages.erm)) for one in select.by_arm(stages.points, metric)
        ]
    if not chosen:
        raise ValueError(f"no run of {what.grid} is stored: make them with `kdnb sweep {what.grid}`")
    found = [_opened(choice, matched) for choice, matched in chosen]  # the selection is made: test may be read now
    _print_selection(found, metric)
    return {"grid": what.grid, "profile": what.profile, "metric": metric, "selected": found}


def _opened(choice: select.Choice, matched: RunConfig) -> dict:
    """A choice as plain data, with the test metrics of its run and of the ERM run with the same training."""
    config = choice.point.config
    names = ("task", "seed", "student", "teacher_run", "lr", "epochs", "alpha", "tau", "tau2_scaling", "schedule")
    test = store.load(config.run_id()).metrics["test"]
    told = {"arm": choice.point.arm, "name": choice.point.title, **{name: getattr(config, name) for name in names}}
    told |= {"run_id": config.run_id(), "validation": choice.value, "stored": choice.stored, "of": choice.wanted}
    told |= {"test": {name: test[name] for name in ("entropy", "accuracy", "nll")}, "matched_erm": None}
    if config.method != "erm" and store.exists(matched.run_id()):
        other = store.load(matched.run_id()).metrics["test"]
        told["matched_erm"] = {"run_id": matched.run_id(), **{name: other[name] for name in told["test"]}}
    return told


def _print_selection(found: list[dict], metric: str) -> None:
    from rich.console import Console
    from rich.table import Table

    unit = "%" if metric == "accuracy" else "nats"
    shown = Table(
        "task", "arm", "seed", "lr", "epochs", "alpha", "tau", f"validation {metric}, {unit}", "of",
        "test entropy, nats", "test accuracy, %", "matched ERM: entropy",
    )  # fmt: skip
    for row in found:
        value = f"{100 * row['validation']:.1f}" if metric == "accuracy" else f"{row['validation']:.3f}"
        matched = f"{row['matched_erm']['entropy']:.3f}" if row["matched_erm"] else "–"
        test = (f"{row['test']['entropy']:.3f}", f"{100 * row['test']['accuracy']:.1f}")
        settings = [f"{row[name]:g}" for name in ("lr", "epochs", "alpha", "tau")]
        of = str(row["of"]) if row["stored"] == row["of"] else f"{row['stored']} of {row['of']}"
        shown.add_row(row["task"], row["name"], str(row["seed"]), *settings, value, of, *test, matched)
    Console().print(shown)
    if any(row["stored"] < row["of"] for row in found):
        print("some candidates have no run yet: the selection may change when they have")
