import logging

import pytest
from pacs import Namespace


@pytest.fixture(scope="module", autouse=True)
def other_tests_hear_pydicom():
    """A station silences the libraries of its whole process, which here runs other tests too."""
    from pydicom import config

    loggers = [logging.getLogger(name) for name in logging.root.manager.loggerDict]
    levels = [one.level for one in loggers]
    mode = config.settings.reading_validation_mode
    yield
    config.settings.reading_validation_mode = mode
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)


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


@pytest.fixture(scope="module")
def station(tmp_path_factory):
    """A state folder and its worker, for consoles; tests of the page have a whole process."""
    from consoles import running

    with running(tmp_path_factory.mktemp("state")) as station:
        yield station


@pytest.fixture(scope="module")
def chromium():
    from browsing import browser

    with browser() as running:
        yield running


@pytest.fixture
def visit(chromium, station):
    """A browser at the page of the module's station; whatever it complains of fails the test."""
    from browsing import Visit

    one = Visit(chromium, station.url)
    yield one
    one.close()
    one.check()
