"""Small JSON files that several processes write and read: the old one or the new one, never a part."""

import json
import os
import platform
import threading
from pathlib import Path


def write(path: Path, content: dict) -> None:
    """Write a file, its folder too if need be, and put it in place of the old one at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{platform.node()}-{os.getpid()}-{threading.get_ident()}")
    partial.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    os.replace(partial, path)


def read(path: Path) -> dict:
    """What a file holds; {} if there is none or it cannot be read."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def names(folder: Path) -> set[str]:
    """Names of the files in a folder, without ".json"; none if there is no folder."""
    try:
        return {name.removesuffix(".json") for name in os.listdir(folder) if name[0] != "." and name.endswith(".json")}
    except FileNotFoundError:
        return set()
