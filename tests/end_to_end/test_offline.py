"""The tests' own block of the network, here and in the processes that the tests start."""

import socket
import subprocess
import sys
import urllib.request

import pytest

PROBE = "import socket; socket.create_connection(('192.0.2.1', 80), timeout=2)"  # TEST-NET-1: nobody's address


@pytest.mark.parametrize("address", [("192.0.2.1", 80), ("huggingface.co", 443), ("0.0.0.1", 1)])
def test_connections_that_leave_this_machine_are_refused(no_network, address):
    with pytest.raises(no_network, match="tests run offline"):
        socket.create_connection(address, timeout=2)
    with socket.socket() as plain, pytest.raises(no_network):
        plain.connect(address)
    with socket.socket() as plain, pytest.raises(no_network):
        plain.connect_ex(address)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as plain, pytest.raises(no_network):
        plain.sendto(b"x", address)


def test_names_are_not_looked_up(no_network):
    with pytest.raises(no_network):
        socket.getaddrinfo("pypi.org", 443)
    with pytest.raises(OSError, match="tests run offline"):
        urllib.request.urlopen("http://pypi.org/simple/", timeout=2)


@pytest.mark.slow
def test_processes_of_the_tests_are_blocked_too():
    done = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, check=False)
    assert done.returncode
    assert "NetworkBlocked: tests run offline" in done.stderr


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_loopback_stays_open(host):
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection((host, server.getsockname()[1]), timeout=5) as client,
        server.accept()[0] as other,
    ):
        client.sendall(b"hello")
        assert other.recv(5) == b"hello"


def test_unix_sockets_stay_open(tmp_path):
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind(str(tmp_path / "s"))
        server.listen()
        client.connect(str(tmp_path / "s"))


def test_the_hub_is_offline_and_outputs_are_the_tests_own():
    import os

    from huggingface_hub import constants

    from kdnb import paths
    from kdnb.cli import doctor

    assert constants.HF_HUB_OFFLINE
    assert str(paths.OUTPUTS) == os.environ["KDNB_OUTPUTS"]
    assert paths.ROOT / "outputs" != paths.OUTPUTS
    assert doctor._hub().startswith("offline mode")
