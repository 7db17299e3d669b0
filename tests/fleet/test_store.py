"""A device's life with signed models: installing, going back, new keys."""

import errno
from pathlib import Path

import pytest
from fleet.factory import NAME, make_bundle, version_in_use

from xrayedge import Screener
from xrayedge.bundle import SHIPPED, ModelBundle
from xrayedge.errors import BundleError, FleetError
from xrayedge.fleet import Keyring, SecretKey, Signed, Store, fetch, sign, sign_keyring


def signed_keyring(root, serial, roots, releases=(), revoked=()):
    keys = ([key.public() for key in some] for some in (roots, releases, revoked))
    content, signature = sign_keyring(Keyring(serial, *map(tuple, keys)), root)
    return Signed("keyring.json", content, signature)


def test_an_installed_model_screens_by_its_name(chest, first, tmp_path, monkeypatch, manufacturer):
    """Examined by `doctor` in a process of its own, as on a device."""
    monkeypatch.setenv("XRAYEDGE_MODELS", str(tmp_path / "models"))
    store = Store()
    store.pin(manufacturer.root.public())
    installed = store.install(first)
    assert (installed.version, installed.serial, installed.in_use) == ("1.0", 10, True)
    with Screener(NAME, engine="litert") as screener:
        screening = screener.screen(chest)
    assert (screening.status, screening.model, screening.version) == ("screened", NAME, "1.0")


def test_a_model_that_does_not_pass_here_is_not_switched_to(
    device, first, manufacturer, tmp_path, monkeypatch
):
    """Its golden vectors are another model's."""
    from dataclasses import replace

    device.install(first)
    bundle = ModelBundle.load(make_bundle(tmp_path / "bad", "3.0"))
    (variant,) = bundle.classifier.variants
    vectors = tuple(replace(one, probabilities=(1.0, 0.0, 0.0)) for one in variant.golden)
    wrong = replace(bundle.classifier, variants=(replace(variant, golden=vectors),))
    replace(bundle, classifier=wrong).write_manifest()
    release = sign(bundle.folder, manufacturer.root, tmp_path / "bad.xeb", serial=30)
    with pytest.raises(FleetError, match="does not pass on this device"):
        Store().install(fetch(release))
    assert version_in_use() == "1.0"
    assert device.serial(NAME) == 10


def test_there_and_back(device, first, second):
    device.install(first)
    device.install(second)
    assert version_in_use() == "2.0"
    device.rollback(NAME)
    assert version_in_use() == "1.0"
    assert device.serial(NAME) == 20  # it does not fall
    with pytest.raises(FleetError, match="no earlier model"):
        device.rollback(NAME)
    device.install(second)  # once more, by hand
    assert version_in_use() == "2.0"


def test_two_slots_are_kept(device, manufacturer, first, second):
    for release in (first, second, fetch(manufacturer.release("3.0", 30))):
        device.install(release)
    assert [(one.version, one.in_use) for one in device.installed()] == [
        ("2.0", False),
        ("3.0", True),
    ]


def test_the_package_s_bundle_is_behind_every_installed_one(device, manufacturer):
    device.install(fetch(manufacturer.release("9.0", 5, name="vgg16-edge")))
    assert version_in_use("vgg16-edge") == "9.0"
    assert device.rollback("vgg16-edge") == SHIPPED / "vgg16-edge"
    assert version_in_use("vgg16-edge") == ModelBundle.load(SHIPPED / "vgg16-edge").version


def test_a_first_run_that_never_succeeds_leads_back(device, first, second):
    device.install(first)
    assert device.start(NAME).name.startswith("10-1.0")
    device.confirm(NAME)
    assert device.start(NAME).name.startswith("10-1.0")

    device.install(second)
    assert device.start(NAME).name.startswith("20-2.0")
    # It dies before its first screening; the service starts it again.
    assert device.start(NAME).name.startswith("10-1.0")
    assert version_in_use() == "1.0"


def test_a_release_that_came_during_another_one_s_first_run_is_not_confirmed(device, first, second):
    device.install(first)
    device.start(NAME)
    device.install(second)
    device.confirm(NAME)  # by the process that runs 1.0
    assert device.start(NAME).name.startswith("20-2.0")
    assert device.start(NAME).name.startswith("10-1.0")  # 2.0 never confirmed its first run


def test_a_slot_that_rots_is_left_at_the_next_start(device, first, second):
    device.install(first)
    slot = device.install(second).folder
    file = slot / ModelBundle.load(slot).classifier.variants[0].file
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(FleetError, match="sha256 differs"):
        device.verify(NAME)
    assert device.start(NAME).name.startswith("10-1.0")
    assert device.install(second).version == "2.0"  # in a new slot
    assert device.verify(NAME).version == "2.0"


def test_the_same_release_twice_is_one(device, first):
    assert device.install(first).folder == device.install(first).folder
    assert len(device.installed()) == 1


def test_keys_are_rotated_and_revoked_without_a_network(device, manufacturer, first):
    root, desk, next_desk = manufacturer.root, manufacturer.desk, SecretKey.create()
    by_desk = fetch(manufacturer.release("2.0", 21, key=desk))
    with pytest.raises(FleetError, match="does not trust"):
        device.install(by_desk)

    device.install(first)
    device.follow(signed_keyring(root, 1, [root], [desk]))
    device.install(by_desk)
    assert version_in_use() == "2.0"

    # The desk's key is stolen: what it signed is left at once, and never comes back.
    device.follow(signed_keyring(root, 2, [root], [next_desk], [desk]))
    assert version_in_use() == "1.0"
    with pytest.raises(FleetError, match="does not trust"):
        device.install(fetch(manufacturer.release("3.0", 31, key=desk)))
    with pytest.raises(FleetError, match="revoked"):
        device.pin(desk.public())
    device.follow(signed_keyring(root, 3, [root], [desk, next_desk]))  # nor by a later keyring
    with pytest.raises(FleetError, match="does not trust"):
        device.install(fetch(manufacturer.release("3.0", 31, key=desk)))
    device.install(fetch(manufacturer.release("3.0", 32, key=next_desk)))
    assert version_in_use() == "3.0"


def test_a_key_revoked_while_an_installation_waits_installs_nothing(
    device, manufacturer, first, monkeypatch
):
    root, desk = manufacturer.root, manufacturer.desk
    device.install(first)
    device.follow(signed_keyring(root, 1, [root], [desk]))
    verified = device._signer

    def and_then_revoked(*arguments):
        signer = verified(*arguments)
        device.follow(signed_keyring(root, 2, [root], [], [desk]))
        return signer

    monkeypatch.setattr(device, "_signer", and_then_revoked)
    with pytest.raises(FleetError, match="no longer trusted"):
        device.install(fetch(manufacturer.release("2.0", 21, key=desk)))
    assert version_in_use() == "1.0"


def test_what_can_t_be_used_any_more_is_still_listed(device, manufacturer, first):
    root, desk = manufacturer.root, manufacturer.desk
    device.follow(signed_keyring(root, 1, [root], [desk]))
    device.install(fetch(manufacturer.release("2.0-beta", 5, key=desk)))
    device.follow(signed_keyring(root, 2, [root]))  # the desk's key is left out, not revoked
    slot = device.install(first).folder
    old, new = device.installed()
    assert (old.version, old.serial, old.signer, old.in_use) == ("2.0-beta", 5, None, False)
    assert "does not trust" in old.fault
    assert (new.version, new.fault) == ("1.0", None)
    (slot / "manifest.json").write_text("{")
    assert [one.in_use for one in device.installed()] == [False, True]
    assert "manifest.json" in device.installed()[1].fault


def test_a_root_hands_over_to_the_next(device, manufacturer):
    root, heir = manufacturer.root, SecretKey.create()
    device.follow(signed_keyring(root, 1, [heir], [], [root]))
    with pytest.raises(FleetError, match="does not trust"):
        device.follow(signed_keyring(root, 2, [root]))
    device.follow(signed_keyring(heir, 2, [heir]))
    assert device.keyring().signers == (heir.public(),)


def test_only_a_root_signs_keyrings_and_none_is_older(device, manufacturer):
    root, desk = manufacturer.root, manufacturer.desk
    device.follow(signed_keyring(root, 5, [root], [desk]))
    with pytest.raises(FleetError, match="does not trust"):
        device.follow(signed_keyring(desk, 6, [desk]))
    with pytest.raises(FleetError, match="older keyring"):
        device.follow(signed_keyring(root, 4, [root]))
    with pytest.raises(FleetError, match="older keyring"):
        device.follow(signed_keyring(root, 5, [root]))  # the same serial, another content
    device.follow(signed_keyring(root, 5, [root], [desk]))  # the same once more


def test_an_unsigned_bundle_is_installed_only_when_asked_for(device, first, second, tmp_path):
    folder = make_bundle(tmp_path / "own", "0.1")
    assert ModelBundle.load(folder).version == "0.1"  # a folder is loaded as ever
    unsigned = Signed(first.name, first.content, None)
    with pytest.raises(FleetError, match="no signature"):
        device.install(unsigned)
    with pytest.raises(BundleError, match="no model"):
        version_in_use()
    assert device.install(unsigned, allow_unsigned=True).signer is None
    assert device.install_folder(folder).version == "0.1"
    assert device.serial(NAME) == 0
    with pytest.raises(FleetError, match="without a signature"):
        device.verify(NAME)
    device.install(second)
    assert device.verify(NAME).version == "2.0"


def test_a_slot_that_we_did_not_write_is_not_used(device, tmp_path):
    slot = make_bundle(device.root / NAME / "slots" / "smuggled", "6.6")
    (device.root / NAME / "current").symlink_to(slot)
    with pytest.raises(BundleError, match="nobody checked its signature"):
        ModelBundle.load(NAME)
    with pytest.raises(FleetError, match="no model"):
        device.start(NAME)


@pytest.mark.parametrize(
    "content", [b"{", b"[]", b'{"format_version": 1, "serial": 1, "roots": [5]}', b"[" * 100_000]
)
def test_damaged_keys_are_named_with_what_to_do(device, content):
    (device.root / "trust.json").write_bytes(content)
    with pytest.raises(FleetError, match=r"trust\.json: .* remove it and trust the root key again"):
        device.keyring()


def test_files_that_can_t_be_read_are_not_called_damaged(device, first, monkeypatch):
    device.install(first)

    def refuse(path):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    for ask in (device.keyring, lambda: device.serial(NAME)):
        with pytest.raises(FleetError, match=r"can't be read \(Permission denied\)$"):
            ask()


def test_a_serial_of_zero_is_refused(manufacturer, tmp_path):
    bundle = make_bundle(tmp_path / "own", "0.1")
    with pytest.raises(FleetError, match="serial 0: a whole number from 1 on"):
        sign(bundle, manufacturer.root, tmp_path / "own.xeb", serial=0)


def test_a_store_that_can_t_be_written_says_so(manufacturer, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(FleetError, match="can't be written"):
        Store(tmp_path / "file" / "models").pin(manufacturer.root.public())
