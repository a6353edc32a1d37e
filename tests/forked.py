"""Processes that begin with the large libraries imported, kernels of notebooks among them; otherwise as any other.

Python, torch and pandas take seconds to start. Here one server of the test process imports them once and forks: every
process is one of its own, in a session of its own, is killed and dies as others do, and imports kdnb itself, after its
environment is set. What a fresh interpreter imports or does at its start is a matter for `subprocess`.
"""

import contextlib
import multiprocessing
import os
import runpy
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import forkserver
from multiprocessing.connection import Connection

import pytest

LIBRARIES = [
    "no_grammar", "torch", "safetensors.torch", "transformers", "transformers.models.llama.modeling_llama", "datasets",
    "scipy.stats", "sklearn.metrics", "pandas", "seaborn", "matplotlib.pyplot", "matplotlib_inline.backend_inline",
    "ipykernel.kernelapp", "typer", "rich", "psutil",
]  # fmt: skip
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(LIBRARIES)


class Popen:
    """The part of subprocess.Popen that tests and Jupyter's kernel manager use, for commands of this interpreter.

    Args:
        command: the interpreter; a script, "-c" and code, or "-m" and a module; words.
        stdout, stderr: None, an open file, PIPE (text), for stderr STDOUT as well.
        env: the whole environment; None: this process's.
        cwd: where it begins; None: here.
    """

    stdin = None

    def __init__(self, command, stdout=None, stderr=None, env=None, cwd=None, **_):
        self.stdout, written = _pipe() if stdout == subprocess.PIPE else (None, stdout)
        self.stderr, also = _pipe() if stderr == subprocess.PIPE else (None, stderr)
        streams = [written, written if stderr == subprocess.STDOUT else also]
        streams = [one and Connection(os.dup(one.fileno()), readable=False) for one in streams]
        for own, end in ((self.stdout, written), (self.stderr, also)):
            if own:
                end.close()
        ready, told = SERVER.Pipe(duplex=False)
        surroundings = dict(env or os.environ), os.fspath(cwd or os.getcwd()), streams
        self._process = SERVER.Process(target=_begin, args=([*map(os.fspath, command)], surroundings, told))
        self._process.start()
        for end in (told, *filter(None, streams)):
            end.close()
        with contextlib.suppress(EOFError):  # it died at once
            ready.recv()  # from now on its process group is its own: Jupyter signals the group
        self.pid = self._process.pid

    @property
    def returncode(self):
        return self._process.exitcode

    def poll(self):
        return self._process.exitcode

    def wait(self, timeout=None):
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired(str(self.pid), timeout)
        return self._process.exitcode

    def communicate(self, timeout=None):
        with ThreadPoolExecutor(2) as readers:
            told = [readers.submit(stream.read) if stream else None for stream in (self.stdout, self.stderr)]
            told = tuple(one and one.result(timeout) for one in told)
        self.wait(timeout)
        return told

    def send_signal(self, number):
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self):
        self._process.kill()

    def terminate(self):
        self._process.terminate()


def run(command, env=None, cwd=None):
    """As subprocess.run with captured text and check=False."""
    process = Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env, cwd=cwd)
    out, err = process.communicate()
    return subprocess.CompletedProcess(command, process.returncode, out, err)


def _pipe():
    return (os.fdopen(end, mode) for end, mode in zip(os.pipe(), "rw", strict=True))


@pytest.fixture(scope="session")
def kernels():
    """Notebooks are executed in forked kernels."""
    from jupyter_client.provisioning import local_provisioner

    forkserver.ensure_running()  # in the tests' environment, before a test changes its own

    def launch(cmd, env=None, cwd=None, stdin=None, stdout=None, stderr=None, independent=False, **_):
        return Popen(cmd, stdout, stderr, env, cwd)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(local_provisioner, "launch_kernel", launch)
        yield


def _begin(command, surroundings, told):
    """In the process: the command, as if by exec."""
    environment, folder, streams = surroundings
    os.setsid()
    before = os.environ.get("PYTHONPATH")
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    for stream, number in zip((os.open(os.devnull, os.O_RDONLY), *streams), range(3), strict=True):
        if stream is not None:
            os.dup2(stream if number == 0 else stream.fileno(), number)
    told.send(None)
    sys.path[:0] = ["", *environment.get("PYTHONPATH", "").split(os.pathsep)]
    if environment.get("PYTHONPATH") != before:
        sys.modules.pop("sitecustomize", None)
        with contextlib.suppress(ImportError):
            __import__("sitecustomize")
    way, words = command[1], command[2:]
    if way == "-c":
        sys.argv = ["-c", *words[1:]]
        exec(compile(words[0], "<string>", "exec"), {"__name__": "__main__"})
        return
    sys.argv = words if way == "-m" else [way, *words]
    if "ipykernel_launcher" in words:
        import matplotlib

        matplotlib.rcParams["backend"] = "module://matplotlib_inline.backend_inline"  # as a kernel's environment says
        sys.argv.append(f"--IPKernelApp.parent_handle={os.getppid()}")  # it ends when the server does
    if way == "-m":
        runpy.run_module(words[0], run_name="__main__", alter_sys=True)
    else:
        sys.path.insert(0, os.path.dirname(way))
        runpy.run_path(way, run_name="__main__")
