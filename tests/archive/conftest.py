import pytest
from images import make_originals, screened


@pytest.fixture(scope="session")
def originals(tmp_path_factory, chest, leg):
    """Small images by name; see `images.make_originals`."""
    return make_originals(tmp_path_factory.mktemp("originals") / "in", chest, leg)


@pytest.fixture(scope="session")
def expected(originals):
    """What `screen` makes of each."""
    return screened(originals)
