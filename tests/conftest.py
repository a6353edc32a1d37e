"""The tests' surroundings: no network, their own outputs folder, a few shared runs. Set before kdnb is imported."""

import os
import shutil
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

OFFLINE = Path(__file__).parent / "offline"
SCRATCH = Path(tempfile.mkdtemp(prefix="kdnb-tests-"))
os.environ.update(
    {
        "KDNB_OUTPUTS": str(SCRATCH / "outputs"),
        "KDNB_REFERENCE": str(SCRATCH / "reference"),
        "HF_HOME": str(SCRATCH / "huggingface"),  # nothing is read from, or left in, the user's own cache
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",  # tiny models are faster on one core, and the machine may be shared
        "PIP_NO_INDEX": "1",  # pip, which kdnb.data.assets runs as a process, stays offline too
        "PYTHONPATH": os.pathsep.join([str(OFFLINE), *filter(None, [os.environ.get("PYTHONPATH")])]),
    }
)
for name in ("KDNB_HUB", "KDNB_DEBUG"):
    os.environ.pop(name, None)
sys.path.insert(0, str(OFFLINE))
if not hasattr(sys.modules.get("sitecustomize"), "block"):  # the machine's own, where it has one
    sys.modules.pop("sitecustomize", None)

import matplotlib  # noqa: E402
import no_grammar  # noqa: E402, F401
import pytest  # noqa: E402
import sitecustomize as offline  # noqa: E402
import stores  # noqa: E402
from chromium import browser  # noqa: E402, F401
from forked import kernels  # noqa: E402, F401
from hypothesis import settings  # noqa: E402

from kdnb.studies import registry  # noqa: E402

registry.grids()  # tests look grids up by name, some while they are collected
matplotlib.use("Agg")
pytest.register_assert_rewrite("skeleton")
settings.register_profile("kdnb", deadline=None, max_examples=60, derandomize=True)  # two shared cores: no deadlines
settings.load_profile("kdnb")


LONGEST = ("test_notebooks.py", "test_engines.py", "test_defaults.py", "test_benchmarks.py")


def pytest_collection_modifyitems(items):
    """The files that take longest come first, so that two workers end together (with --no-loadscope-reorder)."""
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))


def pytest_unconfigure():
    shutil.rmtree(SCRATCH, ignore_errors=True)


@pytest.fixture(scope="session", autouse=True)
def no_network():
    """Connections that leave this machine fail in every test."""
    offline.block()
    yield offline.NetworkBlocked
    offline.unblock()


@pytest.fixture
def store(tmp_path, monkeypatch):
    """An empty run store of the test's own; the folder of its runs."""
    from kdnb import paths

    for name, folder in stores.FOLDERS.items():
        monkeypatch.setattr(paths, name, tmp_path / "outputs" / folder)
    return paths.RUNS


@pytest.fixture
def folder_of_thousands():
    """An empty folder, in memory where that can be: a disk may take minutes to remove ten thousand others."""
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="kdnb-tests-", dir=memory) as folder:
        yield Path(folder)


@pytest.fixture
def kdnb(store, monkeypatch, capsys):
    """kdnb(*words) in this process: exit code, stdout, stderr."""
    from kdnb.cli.main import main

    def call(*words):
        monkeypatch.setattr(sys, "argv", ["kdnb", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        told = capsys.readouterr()
        return ended.value.code or 0, told.out, told.err

    return call


@pytest.fixture(scope="session")
def toy():
    """The toy profile's data of task rt."""
    from kdnb.data.splits import load

    return load("rt", "toy")


@pytest.fixture(scope="session")
def quick(toy):
    """quick(arm, **changes): the config of a toy run of a second, in float32, without the entropy curves."""
    from kdnb.experiment.arms import arm_config

    def config(arm="erm_small", data=toy, **changes):
        base = arm_config(
            arm,
            task=data.task.name,
            profile="toy",
            data=data.fingerprint,
            seed=changes.pop("seed", 0),
            teacher_run=changes.pop("teacher_run", ""),
        )
        return replace(base, **{"precision": "fp32", "history_points": 0, "epochs": 1, **changes})

    return config


@pytest.fixture(scope="session")
def teacher(toy, quick):
    """A finished ERM run of the small model, to be taught by."""
    from kdnb.experiment.training import train as fit

    return fit(quick("erm_small"), toy)
