"""An interpreter in which torch and its company are not installed, and which stays offline. Python imports it by its
name in every process whose PYTHONPATH begins with this folder; what a forked process brought along is forgotten."""

import importlib.abc
import importlib.metadata
import runpy
import sys
from pathlib import Path

GONE = ("torch", "transformers", "datasets", "safetensors", "tokenizers")
_found = importlib.metadata.Distribution.from_name.__func__


class Gone(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in GONE:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def without(cls, name):
    if name in GONE:
        raise importlib.metadata.PackageNotFoundError(name)
    return _found(cls, name)


runpy.run_path(str(Path(__file__).parent.parent / "offline" / "sitecustomize.py"))
for module in [name for name in sys.modules if name.partition(".")[0] in GONE]:
    del sys.modules[module]
sys.meta_path.insert(0, Gone())
importlib.metadata.Distribution.from_name = classmethod(without)
