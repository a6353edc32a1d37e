"""Writes requirements.lock and requirements-torch.lock: each package at its tested version, with the hashes of PyPI.

`make lock` runs it, after a change of pyproject.toml or constraints.txt. It needs uv and a network, and holds for every
system at once (universal resolution). torch and what its CUDA builds bring stand in a file of their own, so that a
machine without a GPU can take the rest by hash and torch from an index of builds for CPUs.
"""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCK, TORCH_LOCK = ROOT / "requirements.lock", ROOT / "requirements-torch.lock"
OLDEST = "3.11.5"  # the oldest Python that all tested versions allow
EXTRAS = ("dev", "cluster")
OF_TORCH = re.compile(r"(torch|triton|nvidia-[\w-]+|cuda-[\w-]+)==")
ABOUT = f"""\
# Made by `make lock` from pyproject.toml and constraints.txt, for Python {OLDEST} and newer on every system.
# pip install --require-hashes -r requirements.lock -r requirements-torch.lock
# pip install --no-deps --no-build-isolation --editable .
"""
WITHOUT = """\
# Everything but torch, which is in requirements-torch.lock as PyPI has it: on Linux with the libraries of CUDA.
"""
ALONE = "# torch as PyPI has it, and what it brings on Linux for CUDA. On a machine without a GPU: docs/running.md.\n"


def compiled() -> str:
    """What uv makes of the requirements: names, versions, markers, hashes.

    Raises:
        SystemExit: there is no uv, or it finds no solution; the message is its own.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("UV_", "PIP_"))}
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "all.lock"
        made.write_text("".join(path.read_text() for path in (LOCK, TORCH_LOCK) if path.exists()))  # what is, stays
        words = ["uv", "pip", "compile", "--quiet", "--no-config", "--universal", "--python-version", OLDEST]
        words += ["--default-index", "https://pypi.org/simple", "--no-emit-index-url", "--no-annotate", "--no-header"]
        words += ["--generate-hashes", "--constraint", "constraints.txt", *(f"--extra={extra}" for extra in EXTRAS)]
        try:
            subprocess.run(
                [*words, "pyproject.toml", "--output-file", str(made)], cwd=ROOT, env=environment, check=True
            )
        except FileNotFoundError:
            sys.exit("tools/lock.py: there is no uv; `make lock` installs it into .venv-tools")
        except subprocess.CalledProcessError as error:
            sys.exit(error.returncode)
        return made.read_text()


def split(text: str) -> tuple[str, str]:
    """All packages but torch's, and torch's; each with its hashes."""
    packages = re.findall(r"^[a-z0-9].*\n(?:[ ].*\n)*", text, re.MULTILINE)
    return tuple("".join(one for one in packages if bool(OF_TORCH.match(one)) is torch) for torch in (False, True))


if __name__ == "__main__":
    rest, torch = split(compiled())
    LOCK.write_text(ABOUT + WITHOUT + rest)
    TORCH_LOCK.write_text(ABOUT + ALONE + torch)
    for path in (LOCK, TORCH_LOCK):
        print(f"{path.name}: {len(re.findall('^[a-z0-9]', path.read_text(), re.MULTILINE))} packages")
