"""The model hub, from this machine's side: what was fetched from it, a local mirror, offline mode, or the real one.

Torch-free. What `kdnb fetch` brings lies in data_cache/hub/<repository>/, laid out as on the hub, with a manifest:
the commit, where it came from, and bytes and sha256 of every file.
"""

import contextlib
import errno
import fnmatch
import hashlib
import os
import queue
import re
import socket
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from kdnb import paths
from kdnb.errors import DamagedFetch, HubUnreachable, first_line
from kdnb.files import read_json, sha256, sha256_once

if TYPE_CHECKING:
    from huggingface_hub.hf_api import RepoFile

Answer = TypeVar("Answer")
MANIFEST = "manifest.json"
MODEL_FILES = (  # alternatives between bars: all there are, at least one; weights as safetensors only, the largest last
    "config.json",
    "tokenizer.json|vocab.txt|tokenizer_config.json|special_tokens_map.json",
    "model.safetensors|model-*.safetensors|model.safetensors.index.json",
)
LANGUAGE_MODEL_FILES = (
    "config.json",
    "*.json|tokenizer*|vocab*|merges.txt|chat_template*|README.md",  # the card tells the licence
    "*.safetensors",
)
LOCAL_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EPERM, errno.EROFS)
CHUNK = 2**22  # bytes copied at a time
LISTING = 60.0  # seconds in which the hub has to tell what there is, and to begin with a file
SLOWEST = 50_000  # bytes a second: what comes more slowly is given up


def manifest(repo: str, root: Path | None = None) -> dict | None:
    """What was fetched of a repository: {"revision", "source", "files": {name: {"bytes", "sha256"}}}; None if nothing.

    An unreadable manifest vouches for nothing and counts as none.
    """
    content = read_json((root or paths.HUB) / repo / MANIFEST)
    whole = isinstance(content.get("files"), dict) and isinstance(content.get("revision"), str)
    return content if whole else None


def choose(patterns: tuple[str, ...], names: Iterable[str]) -> list[str]:
    """The names that some patterns ask for, in the patterns' order; [] unless each of them finds one.

    A pattern names files of one folder, as a shell's do.
    """
    ordered = sorted(names)
    matching = []
    for pattern in patterns:
        either = pattern.split("|")
        matching.append([name for name in ordered if any(_matches(name, one) for one in either)])
    return list(dict.fromkeys(name for part in matching for name in part)) if all(matching) else []


def _matches(name: str, pattern: str) -> bool:
    return name.count("/") == pattern.count("/") and fnmatch.fnmatchcase(name, pattern)


def broken(folder: Path, files: dict[str, dict]) -> list[str]:
    """Names of those files that are not, byte for byte, what their manifest says."""
    return [name for name, entry in files.items() if not _whole(folder / name, entry)]


def in_manifest(repo: str, revision: str, patterns: tuple[str, ...]) -> dict[str, dict]:
    """The manifest's entries of the files asked for, at the commit asked for; {} unless every pattern finds one."""
    known = manifest(repo)
    if not known or known["revision"] != revision:
        return {}
    return {name: known["files"][name] for name in choose(patterns, known["files"])}


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
    """Where a repository's files lie on this machine: fetched, else mirrored; None if only the hub has them.

    Raises:
        DamagedFetch: a file is not what the manifest beside it says.
        HubUnreachable: the mirror says that it holds another commit.
    """
    if folder := fetched(repo, revision, patterns):
        return folder
    folder = mirror(repo)
    known = manifest(repo, folder.parent.parent) if folder else None
    if folder and known:  # a mirror without one is taken at its owner's word
        _check_commit(folder, known, revision)
        if bad := broken(folder, {name: known["files"][name] for name in choose(patterns, known["files"])}):
            raise DamagedFetch(f"{folder / bad[0]} is not what was fetched, by the manifest of KDNB_HUB")
    return folder


def _check_commit(folder: Path, known: dict, revision: str) -> None:
    """Raise HubUnreachable if a mirror's manifest says that it holds another commit."""
    if known["revision"] != revision:
        raise HubUnreachable(f"{folder} holds commit {known['revision'][:12]}, expected {revision[:12]}")


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


def prepare_process() -> None:
    """For the whole process, before what downloads imports the hub's client: no minute of retries.

    Where the hub does not answer now, HF_HUB_OFFLINE is set: datasets has no argument for it, and reads it when it is
    imported. Offline, it still finds what its own cache holds. What takes `local_files_only` needs none of this.
    """
    if state() != "reachable":
        os.environ["HF_HUB_OFFLINE"] = "1"


def _whole(path: Path, entry: dict) -> bool:
    try:
        return path.stat().st_size == entry["bytes"] and sha256_once(path) == entry["sha256"]
    except (OSError, KeyError, TypeError):
        return False


@dataclass(frozen=True)
class Part:
    """Some files of one hub repository: its kind ("model" or "dataset"), commit, and the patterns of `hub.choose`."""

    repo: str
    kind: str
    revision: str
    patterns: tuple[str, ...]


@dataclass(frozen=True)
class Listed:
    """A file as its source lists it: size, and its sha256 or git's name for its content where the source tells."""

    size: int  # bytes
    sha256: str = ""
    blob: str = ""


class Mirror:
    """A local folder laid out as the hub lays it out."""

    name = "mirror"

    def __init__(self, root: Path):
        self.root = root

    def files(self, part: Part) -> dict[str, Listed]:
        """name -> Listed; HubUnreachable if the repository is not there, or is there at another commit."""
        folder, known = self.root / part.repo, manifest(part.repo, self.root)
        if not folder.is_dir():
            raise HubUnreachable(f"KDNB_HUB={self.root}: no folder {part.repo}")
        if known:
            _check_commit(folder, known, part.revision)
        sums = {name: entry["sha256"] for name, entry in known["files"].items()} if known else {}
        here = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
        names = choose(part.patterns, here)
        return {name: Listed(here[name].stat().st_size, sums.get(name) or sha256(here[name])) for name in names}

    def get(self, part: Part, name: str, _listed: Listed, scratch: Path) -> Path:
        """Copy a file into the scratch folder; returns where it is."""
        from tqdm import tqdm

        source, target = self.root / part.repo / name, scratch / name
        target.parent.mkdir(parents=True, exist_ok=True)
        bar = tqdm(total=source.stat().st_size, unit="B", unit_scale=True, desc=name, disable=None, leave=False)
        with bar, open(source, "rb") as read, open(target, "wb") as write:
            while chunk := read.read(CHUNK):
                bar.update(write.write(chunk))
        return target


class Hub:
    """The hub itself, through huggingface_hub: its progress bars, its retries, its resumed downloads."""

    name = "hub"

    def files(self, part: Part) -> dict[str, Listed]:
        """name -> Listed; HubUnreachable if the hub does not answer or does not have the commit."""
        from huggingface_hub import HfApi
        from huggingface_hub.hf_api import RepoFile

        def tree() -> list[RepoFile]:
            found = HfApi().list_repo_tree(part.repo, repo_type=part.kind, revision=part.revision, recursive=True)
            return [entry for entry in found if isinstance(entry, RepoFile)]  # the others are folders

        with _reaching(part):
            return dict(map(_listed, within(LISTING, tree)))

    def get(self, part: Part, name: str, listed: Listed, scratch: Path) -> Path:
        """Download a file into the scratch folder, going on where an earlier call was cut off; returns where it is."""
        from huggingface_hub import hf_hub_download

        def download() -> str:
            return hf_hub_download(part.repo, name, repo_type=part.kind, revision=part.revision, local_dir=scratch)

        with _reaching(part):
            return Path(within(LISTING + listed.size / SLOWEST, download))


def source() -> Mirror | Hub:
    """Where to fetch from: KDNB_HUB if it is set, else the hub; HubUnreachable, saying why, if neither will do."""
    if root := os.environ.get("KDNB_HUB"):
        return Mirror(Path(root))
    if (answer := state()) != "reachable":
        why = {"offline": "HF_HUB_OFFLINE=1 is set", "unreachable": f"{host()} does not answer"}[answer]
        raise HubUnreachable(
            f"{why}: run `kdnb fetch` where the hub is reachable and copy {paths.HUB} from there, "
            "or name a folder laid out as the hub in KDNB_HUB"
        )
    prepare_process()
    from huggingface_hub.utils import disable_progress_bars, logging

    logging.set_verbosity_error()  # what matters is told by kdnb
    if not sys.stderr.isatty():
        disable_progress_bars()
    return Hub()


def checked(path: Path, listed: Listed) -> str:
    """sha256 of a downloaded file; DamagedFetch, and the file is removed, if it is not the one listed."""
    digest, size = sha256(path), path.stat().st_size
    same = digest == listed.sha256 if listed.sha256 else not listed.blob or _blob(path) == listed.blob
    if size != listed.size or not same:
        path.unlink()
        raise DamagedFetch(f"{path.name}: what arrived is not the file at the pinned commit; start again")
    return digest


def _blob(path: Path) -> str:
    """The name git gives to a file's content."""
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def _listed(entry: "RepoFile") -> tuple[str, Listed]:
    """A file's path in its repository, and what is to arrive; ValueError where the hub does not say how to check it."""
    sha256, blob = (entry.lfs.sha256, "") if entry.lfs else ("", entry.blob_id)
    whole = re.fullmatch("[0-9a-f]{64}", sha256) or re.fullmatch("[0-9a-f]{40}", blob)
    if not (whole and isinstance(entry.size, int) and entry.size >= 0):
        raise ValueError(f"{entry.path[:80]!a} is listed without size and hash")
    path = PurePosixPath(entry.path)
    if path.is_absolute() or ".." in path.parts:
        raise ValueError(f"{entry.path[:80]!a} is listed, which is no file of a repository")
    return entry.path, Listed(entry.size, sha256, blob)


def within(seconds: float, call: Callable[[], Answer]) -> Answer:
    """What a call gives; TimeoutError after so many seconds, whatever the other side does: the client alone would wait.

    It then goes on in a thread that ends with the process.
    """
    answers: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()

    def run() -> None:
        try:
            answers.put((call(), None))
        except BaseException as error:
            answers.put((None, error))

    threading.Thread(target=run, daemon=True).start()
    try:
        answer, error = answers.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError(f"not done within {seconds:.0f} s") from None
    if error:
        raise error
    return answer


@contextlib.contextmanager
def _reaching(part: Part) -> Iterator[None]:
    """Turns what the hub's client raises into one line; a full or read-only disk stays what it is."""
    from huggingface_hub.errors import HTTPError

    try:
        yield
    except (HTTPError, OSError, ValueError, LookupError, TypeError, AttributeError) as error:  # the last: no listing
        if isinstance(error, OSError) and error.errno in LOCAL_ERRORS:
            raise
        told = f"nothing from {host()} ({first_line(error)})"
        raise HubUnreachable(f"{part.repo} at {part.revision[:12]}: {told}") from None
