"""The model hub, from this machine's side: what was fetched from it, a local mirror, offline mode, or the real one.

Torch-free. What `kdnb fetch` brings lies in data_cache/hub/<repository>/, laid out as on the hub, with a manifest:
the commit, where it came from, and bytes and sha256 of every file.
"""

import fnmatch
import functools
import hashlib
import json
import os
import socket
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

from kdnb import paths

MANIFEST = "manifest.json"
MODEL_FILES = (  # alternatives between bars: all there are, at least one; weights as safetensors only, the largest last
    "config.json",
    "tokenizer.json|vocab.txt|tokenizer_config.json|special_tokens_map.json",
    "model.safetensors",
)


class HubUnreachable(RuntimeError):
    """Something is neither on this machine nor to be had from the hub."""


class DamagedFetch(RuntimeError):
    """A fetched file is missing, unfinished or altered."""


def sha256(path: Path) -> str:
    """Hex digest of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def manifest(repo: str, root: Path | None = None) -> dict | None:
    """What was fetched of a repository: {"revision", "source", "files": {name: {"bytes", "sha256"}}}; None if nothing.

    An unreadable manifest vouches for nothing and counts as none.
    """
    try:
        found = json.loads((root or paths.HUB).joinpath(repo, MANIFEST).read_bytes())
        return found if isinstance(found["files"], dict) and isinstance(found["revision"], str) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def choose(patterns: tuple[str, ...], names) -> list[str]:
    """The names that some patterns ask for, in the patterns' order; [] unless each of them finds one."""
    found = [[n for n in sorted(names) if any(fnmatch.fnmatchcase(n, p) for p in one.split("|"))] for one in patterns]
    return list(dict.fromkeys(name for part in found for name in part)) if all(found) else []


def broken(folder: Path, files: dict[str, dict]) -> list[str]:
    """Names of those files that are not, byte for byte, what their manifest says."""
    return [name for name, entry in files.items() if not _whole(folder / name, entry)]


def in_manifest(repo: str, revision: str, patterns: tuple[str, ...]) -> dict[str, dict]:
    """The manifest's entries of the files asked for, at the commit asked for; {} unless every pattern finds one."""
    found = manifest(repo)
    names = choose(patterns, found["files"]) if found and found["revision"] == revision else []
    return {name: found["files"][name] for name in names}


def fetched(repo: str, revision: str, patterns: tuple[str, ...]) -> Path | None:
    """The fetched copy of a repository at a commit, the files asked for checked; None if they were never fetched.

    Raises:
        DamagedFetch: they were, but one is missing, unfinished or altered.
    """
    entries = in_manifest(repo, revision, patterns)
    if bad := broken(paths.HUB / repo, entries):
        raise DamagedFetch(f"{paths.HUB / repo / bad[0]} is not what was fetched; start `kdnb fetch` again to mend it")
    return paths.HUB / repo if entries else None


def mirror(repo: str) -> Path | None:
    """The local copy of a hub repository under KDNB_HUB, laid out as on the hub; None if there is none."""
    root = os.environ.get("KDNB_HUB")
    folder = Path(root, repo) if root else None
    return folder if folder and folder.is_dir() else None


def local(repo: str, revision: str, patterns: tuple[str, ...]) -> Path | None:
    """Where a repository's files lie on this machine: fetched, else mirrored; None if only the hub has them."""
    return fetched(repo, revision, patterns) or mirror(repo)


def host() -> str:
    """The hub's name: HF_ENDPOINT's, where it names another one."""
    return urlsplit(os.environ.get("HF_ENDPOINT") or "https://huggingface.co").netloc


def state() -> str:
    """ "mirror", "offline", "reachable" or "unreachable"; asks the hub, or its proxy, for a connection at most."""
    if os.environ.get("KDNB_HUB"):
        return "mirror"
    if os.environ.get("HF_HUB_OFFLINE") == "1":
        return "offline"
    address = urlsplit(os.environ.get("HF_ENDPOINT") or "https://huggingface.co")
    through = urllib.request.getproxies().get(address.scheme)
    if through and not urllib.request.proxy_bypass(address.netloc):
        address = urlsplit(through if "//" in through else f"//{through}")
    try:
        port = address.port or (80 if address.scheme == "http" else 443)
        socket.create_connection((address.hostname, port), timeout=3).close()
    except (OSError, ValueError):
        return "unreachable"
    return "reachable"


def prepare() -> None:
    """Before transformers or datasets are imported: no telemetry, and no minute of retries without a hub.

    Offline, they still find what their own cache holds.
    """
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    if state() != "reachable":
        os.environ["HF_HUB_OFFLINE"] = "1"


def _whole(path: Path, entry: dict) -> bool:
    try:
        seen = path.stat()
        return seen.st_size == entry["bytes"] and _digest(path, seen.st_size, seen.st_mtime_ns) == entry["sha256"]
    except (OSError, KeyError, TypeError):
        return False


@functools.lru_cache(maxsize=256)
def _digest(path: Path, _size: int, _changed: int) -> str:
    """sha256 of a file, once per process and state of the file: weights are hundreds of MB."""
    return sha256(path)
