"""Kernels that wait, their imports done, for the next notebook to execute.

Half the time of a notebook that only reads runs goes into starting Python and importing pandas, scipy and seaborn.
A waiting kernel does that beside the notebook before it, or beside the runner's own start. kdnb itself is not
imported ahead: it reads its environment when it is.
"""

import atexit
import functools
import json
import os
import subprocess
import sys

from jupyter_client.manager import AsyncKernelManager

from kdnb import paths

AHEAD = "ipykernel.kernelapp, ipykernel.ipkernel, numpy, pandas, scipy.stats, matplotlib.pyplot, seaborn"
WAIT = f"""
import json, os, sys
import {AHEAD}
told = json.loads(sys.stdin.readline() or "null")
if told:
    os.chdir(told["cwd"])
    os.environ.clear()
    os.environ.update(told["env"])
    sys.argv = told["argv"]
    sys.path[0] = ""
    sys.stdin.close()
    sys.stdin = open(os.devnull)
    ipykernel.kernelapp.launch_new_instance()
"""
_waiting: list[subprocess.Popen] = []


def get_ready() -> None:
    """Start a waiting kernel, unless there is one."""
    if not any(process.poll() is None for process in _waiting):
        read_at_import = {"MPLBACKEND": "module://matplotlib_inline.backend_inline", "JPY_PARENT_PID": str(os.getpid())}
        environment = {**os.environ, **read_at_import}
        _waiting.append(
            subprocess.Popen(
                [sys.executable, "-c", WAIT], stdin=subprocess.PIPE, env=environment, start_new_session=True
            )
        )


@atexit.register
def dismiss() -> None:
    """End the kernels that still wait."""
    while _waiting:
        process = _waiting.pop()
        process.kill()
        process.wait()


class WaitingKernelManager(AsyncKernelManager):
    """Starts a kernel by handing its command to the one that waits; over sockets in files: ports could clash."""

    def __init__(self, **options):
        super().__init__(**options, transport="ipc")

    async def _async_launch_kernel(self, kernel_cmd: list[str], **options) -> None:
        if "ipykernel_launcher" in kernel_cmd:
            self.provisioner.launch_kernel = functools.partial(_hand_over, self.provisioner)
        await super()._async_launch_kernel(kernel_cmd, **options)

    _launch_kernel = _async_launch_kernel


async def _hand_over(provisioner, command: list[str], *, env: dict, **_) -> dict:
    """In place of the provisioner's own launch: the waiting process becomes the kernel; its connection info."""
    get_ready()
    process = _waiting.pop()
    told = {"argv": command[command.index("ipykernel_launcher") :], "cwd": str(paths.NOTEBOOKS), "env": env}
    process.stdin.write(json.dumps(told).encode() + b"\n")
    process.stdin.close()
    provisioner.process, provisioner.pid, provisioner.pgid = process, process.pid, process.pid
    return provisioner.connection_info
