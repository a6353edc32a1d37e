"""Strict execution of the notebooks through papermill, and the order of the study.

papermill only warns of an unknown parameter, writes parameter names into code unchecked and takes any
output path; here names are checked, paths are built inside outputs/, and a failing cell is reported in one line.
"""

import contextlib
import hashlib
import json
import logging
import os
import re
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kdnb import files, paths
from kdnb.catalog import PROFILES
from kdnb.core import store
from kdnb.core.config import slug
from kdnb.errors import NotebookFailed, nearest, one_line
from kdnb.report import parameters as parameters_of
from kdnb.studies import registry

TIMEOUT = 3600  # seconds that one cell may take before its kernel is ended
START = 120  # seconds that a kernel may take to start
_SOCKET = 100  # bytes of the name of a socket, a little less than any system allows


@dataclass(frozen=True)
class Step:
    """One notebook of the study: its name, its parameters, and a suffix for its executed copy."""

    notebook: str
    parameters: dict = field(default_factory=dict)

    @property
    def output(self) -> Path:
        """outputs/executed/<notebook>__<parameters>.ipynb, of these parameters alone."""
        return paths.inside(paths.EXECUTED, f"{self.notebook}__{parameters_of.label(self.parameters)}.ipynb")


def study_steps(profile: str) -> list[Step]:
    """What `kdnb study` executes, in order: what trains first, then what reads, of every study."""
    return [Step(*step) for step in registry.notebooks(profile)]


def notebook_path(name: str) -> Path:
    """The notebook of a name under notebooks/; ValueError with the nearest name otherwise."""
    known = {path.stem: path for path in sorted(paths.NOTEBOOKS.glob("*.ipynb"))}
    stem = name.removesuffix(".ipynb")
    if stem not in known:
        raise ValueError(f"unknown notebook {name!r}{nearest(stem, known)}")
    return known[stem]


def copy(folder: Path) -> list[Path]:
    """Copy all notebooks into a folder of the user's, made if need be; returns where they are.

    Args:
        folder: that has none of them.
    Raises:
        ValueError: one is there already, or the folder is none; nothing was copied.
        OSError: the disk is full or refuses; nothing is left of the copies.
    """
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder}: a file, expected a folder")
    sources = sorted(paths.NOTEBOOKS.glob("*.ipynb"))
    if there := [path.name for path in sources if (folder / path.name).exists()]:
        more = f" and {len(there) - 1} more" if len(there) > 1 else ""
        raise ValueError(f"{folder}: {there[0]}{more} would be overwritten; name another folder")
    copies: list[Path] = []
    try:
        for source in sources:
            copies.append(folder / source.name)
            files.write_atomically(copies[-1], source.read_bytes())
    except BaseException:
        for path in copies:
            path.unlink(missing_ok=True)
        raise
    return copies


def run_notebook(path: Path, output: Path, parameters: dict, timeout: int = TIMEOUT) -> Path:
    """Execute one notebook in a fresh kernel and write the executed copy.

    Args:
        path: the source.
        output: the copy, in outputs/ or a folder of the caller's; whole or not at all.
        parameters: names of its parameters cell -> plain values.
        timeout: seconds per cell.
    Raises:
        ValueError: an unknown parameter, or a value of another type than the parameters cell declares.
        NotebookFailed: a cell failed or ran out of time.
        OSError: the copy cannot be written; nothing was executed.
    """
    import papermill
    from traitlets.config import Config

    parameters_of.check(path, parameters)
    files.check_writable(output.parent)
    started = time.perf_counter()
    facts = {}
    with tempfile.TemporaryDirectory(prefix="kdnb-", dir=_short()) as scratch:
        executed = Path(scratch, "executed.ipynb")
        sockets = {"transport": "ipc", "ip": str(Path(scratch, "kernel"))}  # files in no other place: ports clash
        try:
            _apart(
                papermill.execute_notebook,
                parameters_of.literal(path),
                parameters_of.literal(executed),
                parameters,
                engine_name=_engine(),
                kernel_name="python3",
                progress_bar=False,
                log_output=False,
                execution_timeout=timeout,
                start_timeout=START,
                cwd=str(paths.NOTEBOOKS),
                stdout_file=_Progress(),
                shutdown_kernel="immediate",
                config=Config(KernelManager=sockets),
                kernel_manager_class=_own_python(Path(scratch)),
                request_save_on_cell_execute=False,
            )
            facts = {"seconds": round(time.perf_counter() - started, 1), "signature": signature(path, parameters)}
        except papermill.PapermillExecutionError as error:
            reason = f"cell {error.cell_index} raised {error.ename}: {error.evalue}"
            raise NotebookFailed(f"{path.stem}: {reason} (see {output})") from None
        except _Stopped as stopped:
            executed.write_text(json.dumps(stopped.notebook), encoding="utf-8")
            raise NotebookFailed(f"{path.stem}: {stopped.reason(timeout)} (see {output})") from None
        finally:
            _put_in_place(executed, output, facts)
    return output


class _Stopped(Exception):
    """A kernel ended, was too slow or did not start; papermill's own errors do not tell in which cell."""

    def __init__(self, error: Exception, notebook: Any):
        """From the error and the notebook as far as it was executed."""
        super().__init__(str(error))
        self.error, self.notebook = error, notebook

    def reason(self, timeout: int) -> str:
        """What happened, and in which cell, counted as papermill counts: from 0, the injected one among them."""
        from nbclient.exceptions import CellTimeoutError, DeadKernelError

        begun = [i for i, cell in enumerate(self.notebook.cells) if cell.metadata.papermill["start_time"]]
        if not begun:
            return f"no kernel within {START} s, the machine may be busy: {one_line(self.error)}"
        if isinstance(self.error, CellTimeoutError):
            return f"cell {begun[-1]} took more than {timeout} s and was ended"
        if isinstance(self.error, DeadKernelError):
            return f"the kernel died in cell {begun[-1]}, often for lack of memory"
        return f"cell {begun[-1]}: {one_line(self.error)}"


def _engine() -> str:
    """The name of papermill's own engine, registered once more with errors that say in which cell they were met."""
    from nbclient.exceptions import CellTimeoutError
    from papermill.engines import NBClientEngine, papermill_engines

    class Told(NBClientEngine):
        @classmethod
        def execute_managed_notebook(cls, nb_man: Any, kernel_name: str, **options: Any) -> None:
            try:
                super().execute_managed_notebook(nb_man, kernel_name, **options)
            except (CellTimeoutError, RuntimeError) as error:  # a dead kernel is a RuntimeError
                raise _Stopped(error, nb_man.nb) from None

    papermill_engines.register("kdnb", Told)
    return "kdnb"


def _short() -> str | None:
    """A folder for temporary files whose name leaves room for that of a socket; None for the usual one."""
    return "/tmp" if len(os.fsencode(tempfile.gettempdir())) > _SOCKET - 40 and os.access("/tmp", os.W_OK) else None


def run_steps(steps: list[Step], say: Callable[[str], None] = print) -> list[Path]:
    """Execute a study's notebooks in order; one that is current (same source, code, parameters and runs) is kept.

    Raises as `run_notebook`, at the first that fails.
    """
    outputs = []
    for number, step in enumerate(steps, 1):
        path, title = notebook_path(step.notebook), f"[{number}/{len(steps)}] {step.output.stem}"
        if _stamped(step.output) == signature(path, step.parameters):
            say(f"{title}: current")
        else:
            started = time.perf_counter()
            say(f"{title} ...")
            run_notebook(path, step.output, step.parameters)
            say(f"{title}: {time.perf_counter() - started:.0f} s")
        outputs.append(step.output)
    return outputs


def signature(path: Path, parameters: dict) -> str:
    """Hash of everything an executed notebook depends on: its source, kdnb's code, parameters, the stored runs."""
    digest = hashlib.sha256(path.read_bytes())
    for source in sorted((paths.ROOT / "kdnb").rglob("*")):
        if source.suffix in (".py", ".json", ".html") and paths.SHIPPED not in source.parents:
            digest.update(source.read_bytes())
    digest.update(json.dumps(parameters, sort_keys=True).encode())
    own = f"{slug(parameters['task'])}-" if path.stem.startswith("2") and "task" in parameters else ""  # 20s: one task
    for folder in (paths.RUNS, paths.REFERENCE):
        for run in sorted(folder.glob(f"{own}*/metrics.json")):
            digest.update(f"{run.parent.name} {run.stat().st_mtime_ns}".encode())
    return digest.hexdigest()


def _own_python(scratch: Path) -> type:
    """A kernel manager whose kernel is the Python that runs kdnb, whatever the user's folders hold.

    A spec "python3" that an environment since removed has left there would be taken first; IPython's profile, which may
    have code of its own and needs a home that can be written, lies in a folder for temporary files.
    """
    from ipykernel.kernelspec import RESOURCES, get_kernel_dict
    from jupyter_client import AsyncKernelManager
    from jupyter_client.kernelspec import KernelSpec

    class OwnPython(AsyncKernelManager):
        @property
        def kernel_spec(self) -> KernelSpec:
            own = {"IPYTHONDIR": str(scratch / "ipython")}
            return KernelSpec(resource_dir=RESOURCES, **{**get_kernel_dict(), "env": own})

    return OwnPython


def _apart(execute: Callable, *words: Any, kernel_manager_class: type, **options: Any) -> None:
    """Call papermill beside this thread, and end the kernel if that is interrupted.

    In the main thread nbclient takes the signals for itself, and tells of a kernel that died.
    """
    managers: list[Any] = []

    class Known(kernel_manager_class):  # type: ignore[misc] # a class of our own making
        def __init__(self, *args: Any, **kwargs: Any):
            super().__init__(*args, **kwargs)
            managers.append(self)

    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(execute, *words, kernel_manager_class=Known, **options)
        try:
            future.result()
        except KeyboardInterrupt:
            logging.getLogger("papermill").disabled = True  # it would tell of a kernel that died
            while not future.done():  # one that is starting too
                for pid in [manager.provisioner.pid for manager in managers if manager.provisioner]:
                    with contextlib.suppress(ProcessLookupError, TypeError):
                        os.kill(pid, signal.SIGKILL)
                wait([future], timeout=0.2)
            logging.getLogger("papermill").disabled = False
            raise


class _Progress:
    """Passes on the lines that count runs, "[3/24] ...", and nothing else of what cells print."""

    def write(self, text: str) -> None:
        sys.stdout.writelines(f"      {line}\n" for line in text.splitlines() if re.match(r"\[\d+/\d+\] ", line))

    def flush(self) -> None:
        sys.stdout.flush()


def _put_in_place(executed: Path, output: Path, facts: dict) -> None:
    """Put an executed copy in its place, whole, with facts in its metadata; one that failed has none."""
    if not executed.exists():  # it never began
        return
    notebook = json.loads(executed.read_text(encoding="utf-8"))
    notebook["metadata"]["papermill"]["output_path"] = str(output)
    if facts:
        notebook["metadata"]["kdnb"] = facts
    files.write_atomically(output, (json.dumps(notebook, indent=1, ensure_ascii=False) + "\n").encode())


def _stamped(output: Path) -> str:
    """The signature of an executed copy; "" if there is none."""
    try:
        return json.loads(files.ordinary(output))["metadata"]["kdnb"]["signature"]
    except (OSError, ValueError, KeyError):
        return ""


def study(profile: str) -> dict:
    """Every notebook, then the report."""
    from kdnb.report import report

    if profile not in PROFILES:
        raise ValueError(f"unknown profile {profile!r}{nearest(profile, PROFILES)}")
    started, before = time.perf_counter(), set(store.stored_ids())
    outputs = run_steps(study_steps(profile))
    path, first = report.write(profile), paths.SITE / "index.html"
    trained = len(set(store.stored_ids()) - before)
    seconds = time.perf_counter() - started
    print(f"{len(outputs)} notebooks, {trained} runs trained, {seconds:.0f} s\nsite: {first}\nreport: {path}")
    return {
        "profile": profile,
        "notebooks": [str(o) for o in outputs],
        "trained": trained,
        "seconds": round(seconds, 1),
        "report": str(path),
        "site": str(first),
    }


def run(notebook: str, parameters: list[str]) -> dict:
    """One notebook with name=value parameters, read by the types of its parameters cell."""
    path = notebook_path(notebook)
    given = parameters_of.given(path, parameters)
    output = run_notebook(path, Step(path.stem, given).output, given)
    print(f"executed: {output}")
    return {"notebook": path.stem, "output": str(output)}
