"""Watches trainings in every process whose PYTHONPATH holds this folder; otherwise as tests/offline.

A training writes "begin <name> <process>" and "end <name> <process>" to the file KDNB_JOURNAL. KDNB_HOLD, a JSON
object, names config fields of trainings that stop at their first stored run: they write "hold <name> <process>" and go
on once there is a file <journal>.<name>. KDNB_POISON likewise names those that die as they begin.
"""

import importlib.abc
import importlib.util
import json
import os
import signal
import sys
import time
from pathlib import Path


def _offline() -> None:
    path = Path(__file__).parents[1] / "offline" / "sitecustomize.py"
    spec = importlib.util.spec_from_file_location("offline_sitecustomize", path)
    spec.loader.exec_module(importlib.util.module_from_spec(spec))


def _note(word: str, name: str) -> None:
    with open(os.environ["KDNB_JOURNAL"], "a", encoding="utf-8") as journal:
        journal.write(f"{word} {name} {os.getpid()}\n")


def _is_named(variable: str, config) -> bool:
    """Whether an environment variable names some config's fields, and all as they are."""
    fields = json.loads(os.environ.get(variable, "{}"))
    return bool(fields) and all(getattr(config, field) == value for field, value in fields.items())


def _hold(name: str) -> None:
    _note("hold", name)
    until = time.monotonic() + 900
    while not os.path.exists(f"{os.environ['KDNB_JOURNAL']}.{name}"):
        if time.monotonic() > until:  # the test has long given up, or was killed itself
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(0.02)


def _watch(module) -> None:
    real = module.train_epochs

    def train_epochs(configs, data, teacher, on_step, on_run):
        name, stored = configs[0].training(), []
        _note("begin", name)
        if _is_named("KDNB_POISON", configs[0]):
            os.kill(os.getpid(), signal.SIGKILL)

        def store(run):
            on_run(run)
            stored.append(run)
            if len(stored) == 1 and _is_named("KDNB_HOLD", configs[0]):
                _hold(name)

        found = real(configs, data, teacher, on_step, store)
        _note("end", name)
        return found

    module.train_epochs = train_epochs


class _Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name != "kdnb.experiment.training":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        execute = spec.loader.exec_module

        def exec_module(module):
            execute(module)
            _watch(module)

        spec.loader.exec_module = exec_module
        return spec


_offline()
if "KDNB_JOURNAL" in os.environ:
    sys.meta_path.insert(0, _Finder())
