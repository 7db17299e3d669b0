"""A manufacturer with keys and releases, and a device that trusts the root key."""

from __future__ import annotations

import pytest

pytest.importorskip("cryptography")

from fleet.factory import Manufacturer

from xrayedge.fleet import Signed, Store, fetch


@pytest.fixture(scope="session")
def manufacturer(tmp_path_factory) -> Manufacturer:
    return Manufacturer(tmp_path_factory.mktemp("manufacturer"))


@pytest.fixture(scope="session")
def first(manufacturer) -> Signed:
    return fetch(manufacturer.release("1.0", 10))


@pytest.fixture(scope="session")
def second(manufacturer) -> Signed:
    return fetch(manufacturer.release("2.0", 20))


@pytest.fixture
def device(tmp_path, manufacturer, monkeypatch) -> Store:
    """Trusts the root key; examining new bundles is left to the tests that are about it."""
    monkeypatch.setenv("XRAYEDGE_MODELS", str(tmp_path / "models"))
    store = Store(check=lambda folder: None)
    store.pin(manufacturer.root.public())
    return store
