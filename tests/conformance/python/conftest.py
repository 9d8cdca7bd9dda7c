import itertools
import os
import sys

import pytest

sys.path.insert(0, os.path.dirname(__file__))

import peer as peers  # noqa: E402

KINDS = ["sync", "async"] + (["sync msgpack"] if peers.EIO == 4 else [])
_counter = itertools.count(1)


def pytest_configure(config):
    config.addinivalue_line("markers", "modes(*names): the transports a test is for, if not all")
    config.addinivalue_line("markers", "eio4: what only protocol 5 has")


def pytest_collection_modifyitems(items):
    if peers.EIO == 3:
        items[:] = [item for item in items if not item.get_closest_marker("eio4")]


def pytest_generate_tests(metafunc):
    if "kind" in metafunc.fixturenames:
        only = metafunc.definition.get_closest_marker("modes")
        modes = only.args if only else peers.MODES
        cases = [(kind, mode) for kind in KINDS for mode in modes]
        metafunc.parametrize(
            ("kind", "mode"),
            cases,
            ids=[f"python-socketio {peers.VERSION} {k} {m}" for k, m in cases],
        )


def _url(name):
    value = os.environ.get(name)
    if not value:
        pytest.exit(f"{name} is not set: run tests/conformance/run.sh", 2)
    return value.rstrip("/")


@pytest.fixture(scope="session")
def server():
    """The server with default settings."""
    return _url("CONTRACT_URL")


@pytest.fixture(scope="session")
def heartbeat_server():
    """The server with PING_INTERVAL=300."""
    return _url("CONTRACT_HEARTBEAT_URL")


@pytest.fixture
def namespace():
    """A namespace nobody else uses."""
    return f"/dyn-{os.getpid()}{next(_counter):05}"


@pytest.fixture
def opened():
    """Makes peers and ends them with the test."""
    made = []

    def make(kind, mode, **options):
        made.append(peers.Peer(kind, mode, **options))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def companion(opened, server, kind):
    """The other party of a test: a sync client on websocket at the same mount point."""

    def make(namespace, **options):
        other = "sync msgpack" if "msgpack" in kind else "sync"
        return opened(other, "websocket").connect(server, namespace, **options)

    return make
