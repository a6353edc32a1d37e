"""The command `kdnb` in a process of its own; the fixture `kdnb` runs it in the test's."""

import json
import os
import subprocess
import sys

import forked

KDNB = [sys.executable, "-c", "from kdnb.cli.main import main; main()"]


def process(*words, outputs=None, **options):
    """The command in a process of its own."""
    environment = {**os.environ, **({"KDNB_OUTPUTS": str(outputs)} if outputs else {})}
    return subprocess.run([*KDNB, *words], env=environment, capture_output=True, text=True, check=False, **options)


def forked_process(*words, outputs):
    """The same, forked from a process that has the large libraries."""
    return forked.run([*KDNB, *words], env={**os.environ, "KDNB_OUTPUTS": str(outputs)})


def last_json(out):
    return json.loads(out.strip().splitlines()[-1])
