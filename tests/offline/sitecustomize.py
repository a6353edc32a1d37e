"""Refuses connections that leave this machine. Python imports it by its name in every process whose
PYTHONPATH holds this folder: the tests' own, the command line's, the notebooks' kernels."""

import ipaddress
import socket

_connect, _connect_ex, _sendto, _getaddrinfo = (
    socket.socket.connect, socket.socket.connect_ex, socket.socket.sendto, socket.getaddrinfo,
)  # fmt: skip


class NetworkBlocked(OSError):
    """A test tried to leave this machine."""


def _local(host) -> bool:
    if host in (None, "", b"", "localhost", b"localhost"):
        return True
    try:
        return ipaddress.ip_address(host.decode() if isinstance(host, bytes) else host).is_loopback
    except ValueError:
        return False


def _check(family, address) -> None:
    if family != socket.AF_UNIX and not _local(address[0]):
        raise NetworkBlocked(f"tests run offline: connection to {address!r} refused (tests/offline/sitecustomize.py)")


def block() -> None:
    """Let only AF_UNIX and loopback through; kernels talk to their clients over loopback."""

    def connect(self, address):
        _check(self.family, address)
        return _connect(self, address)

    def connect_ex(self, address):
        _check(self.family, address)
        return _connect_ex(self, address)

    def sendto(self, data, *rest):
        _check(self.family, rest[-1])
        return _sendto(self, data, *rest)

    def getaddrinfo(host, *rest, **options):
        _check(socket.AF_INET, (host,))
        return _getaddrinfo(host, *rest, **options)

    socket.socket.connect, socket.socket.connect_ex, socket.socket.sendto = connect, connect_ex, sendto
    socket.getaddrinfo = getaddrinfo


def unblock() -> None:
    """Undo `block`."""
    socket.socket.connect, socket.socket.connect_ex, socket.socket.sendto = _connect, _connect_ex, _sendto
    socket.getaddrinfo = _getaddrinfo


block()
