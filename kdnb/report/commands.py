"""What `kdnb study` and `kdnb run` do; apart from the other commands, so that a notebook starts at once."""

import json
import time

from kdnb.catalog import nearest
from kdnb.core import store
from kdnb.profiles import PROFILES
from kdnb.report import notebooks


def study(profile: str) -> dict:
    """Every notebook, then the report."""
    from kdnb.report import report

    if profile not in PROFILES:
        raise ValueError(f"unknown profile {profile!r}{nearest(profile, PROFILES)}")
    started, before = time.perf_counter(), set(store.stored_ids())
    outputs = notebooks.run_steps(notebooks.study_steps(profile))
    path = report.write(profile)
    trained = len(set(store.stored_ids()) - before)
    seconds = time.perf_counter() - started
    print(f"{len(outputs)} notebooks, {trained} runs trained, {seconds:.0f} s\nreport: {path}")
    return {
        "profile": profile, "notebooks": [str(o) for o in outputs], "trained": trained, "seconds": round(seconds, 1),
        "report": str(path),
    }  # fmt: skip


def run(notebook: str, parameters: list[str]) -> dict:
    """One notebook with name=value parameters; values are JSON where they read as JSON, else text."""
    given = {}
    for parameter in parameters:
        name, equals, value = parameter.partition("=")
        if not equals:
            raise ValueError(f"parameter {parameter!r} must be name=value")
        try:
            given[name] = json.loads(value)
        except json.JSONDecodeError:
            given[name] = value
    path = notebooks.notebook_path(notebook)
    output = notebooks.run_notebook(path, notebooks.Step(path.stem, given).output, given)
    print(f"executed: {output}")
    return {"notebook": path.stem, "output": str(output)}
