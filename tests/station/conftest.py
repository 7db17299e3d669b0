import pytest
from pacs import Namespace


@pytest.fixture
def state(tmp_path, monkeypatch):
    """A state folder, open, which is this process's temporary folder too."""
    from xrayedge.station.state import StateFolder

    with StateFolder(tmp_path / "state") as state:
        monkeypatch.setattr("tempfile.tempdir", str(state.tmp))
        yield state


@pytest.fixture(scope="module")
def namespace(tmp_path_factory):
    """Loopback alone, for peers and the station; all that runs in it is ended."""
    namespace = Namespace(tmp_path_factory.mktemp("peers"))
    yield namespace
    namespace.close()
