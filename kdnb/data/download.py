"""Files of hub repositories at their commits, from the hub itself or from a local mirror: listed, copied, checked."""

import contextlib
import errno
import hashlib
import os
import sys
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from kdnb import paths
from kdnb.data import hub
from kdnb.data.hub import HubUnreachable

LOCAL_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EPERM, errno.EROFS)
CHUNK = 2**22  # bytes copied at a time


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
        folder, known = self.root / part.repo, hub.manifest(part.repo, self.root)
        if not folder.is_dir():
            raise HubUnreachable(f"KDNB_HUB={self.root}: no folder {part.repo}")
        if known and known["revision"] != part.revision:
            raise HubUnreachable(f"{folder} holds commit {known['revision'][:12]}, expected {part.revision[:12]}")
        sums = {name: entry["sha256"] for name, entry in known["files"].items()} if known else {}
        found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
        names = hub.choose(part.patterns, found)
        return {name: Listed(found[name].stat().st_size, sums.get(name) or hub.sha256(found[name])) for name in names}

    def get(self, part: Part, name: str, scratch: Path) -> Path:
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

        with _reaching(part):
            tree = HfApi().list_repo_tree(part.repo, repo_type=part.kind, revision=part.revision, recursive=True)
            entries = [entry for entry in tree if hasattr(entry, "blob_id")]  # the others are folders
        return {
            entry.path: Listed(entry.size, entry.lfs.sha256 if entry.lfs else "", "" if entry.lfs else entry.blob_id)
            for entry in entries
            if ".." not in PurePosixPath(entry.path).parts
        }

    def get(self, part: Part, name: str, scratch: Path) -> Path:
        """Download a file into the scratch folder, going on where an earlier call was cut off; returns where it is."""
        from huggingface_hub import hf_hub_download

        with _reaching(part):
            return Path(
                hf_hub_download(part.repo, name, repo_type=part.kind, revision=part.revision, local_dir=scratch)
            )


def source() -> Mirror | Hub:
    """Where to fetch from: KDNB_HUB if it is set, else the hub; HubUnreachable, saying why, if neither will do."""
    if root := os.environ.get("KDNB_HUB"):
        return Mirror(Path(root))
    if (state := hub.state()) != "reachable":
        why = {"offline": "HF_HUB_OFFLINE=1 is set", "unreachable": f"{hub.host()} does not answer"}[state]
        raise HubUnreachable(
            f"{why}: run `kdnb fetch` where the hub is reachable and copy {paths.HUB} from there, "
            "or name a folder laid out as the hub in KDNB_HUB"
        )
    hub.prepare()
    from huggingface_hub.utils import disable_progress_bars, logging

    logging.set_verbosity_error()  # what matters is told by kdnb
    if not sys.stderr.isatty():
        disable_progress_bars()
    return Hub()


def checked(path: Path, listed: Listed) -> str:
    """sha256 of a downloaded file; DamagedFetch, and the file is removed, if it is not the one listed."""
    digest, size = hub.sha256(path), path.stat().st_size
    same = digest == listed.sha256 if listed.sha256 else not listed.blob or _blob(path) == listed.blob
    if size != listed.size or not same:
        path.unlink()
        raise hub.DamagedFetch(f"{path.name}: what arrived is not the file at the pinned commit; start again")
    return digest


def _blob(path: Path) -> str:
    """The name git gives to a file's content."""
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


@contextlib.contextmanager
def _reaching(part: Part):
    """Turns what the hub's client raises into one line; a full or read-only disk stays what it is."""
    from huggingface_hub.errors import HTTPError

    try:
        yield
    except (HTTPError, OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno in LOCAL_ERRORS:
            raise
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise HubUnreachable(f"{part.repo} at {part.revision[:12]}: nothing from {hub.host()} ({reason})") from None
