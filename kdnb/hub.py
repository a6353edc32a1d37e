"""The model hub, from this machine's side: a local mirror, offline mode, or the real one. Torch-free."""

import os
import socket
from pathlib import Path

HOST = "huggingface.co"


class HubUnreachable(RuntimeError):
    """Something is neither on this machine nor to be had from the hub."""


def mirror(repo: str) -> Path | None:
    """The local copy of a hub repository under KDNB_HUB, laid out as on the hub; None if there is none."""
    root = os.environ.get("KDNB_HUB")
    folder = Path(root, repo) if root else None
    return folder if folder and folder.is_dir() else None


def state() -> str:
    """ "mirror", "offline", "reachable" or "unreachable"; asks the hub at most for a connection."""
    if os.environ.get("KDNB_HUB"):
        return "mirror"
    if os.environ.get("HF_HUB_OFFLINE") == "1":
        return "offline"
    try:
        socket.create_connection((HOST, 443), timeout=3).close()
    except OSError:
        return "unreachable"
    return "reachable"


def prepare() -> None:
    """Before transformers or datasets are imported: no telemetry, and no minute of retries without a hub.

    Offline, they still find what their own cache holds.
    """
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    if state() != "reachable":
        os.environ["HF_HUB_OFFLINE"] = "1"
