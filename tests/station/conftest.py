import pytest
from pacs import Namespace


@pytest.fixture(scope="module")
def namespace(tmp_path_factory):
    """Loopback alone, for peers and the station; all that runs in it is ended."""
    namespace = Namespace(tmp_path_factory.mktemp("peers"))
    yield namespace
    namespace.close()
