"""What must not be installed: altered, old, foreign, torn and crafted releases."""

import io
import struct
import zipfile

import pytest
from fleet.factory import NAME, version_in_use

from xrayedge.bundle import MANIFEST
from xrayedge.errors import FleetError
from xrayedge.fleet import SecretKey, Signed, fetch, xeb


@pytest.fixture
def running(device, first):
    """A device that runs release 1.0 and must go on doing so."""
    device.install(first)
    yield device
    assert version_in_use() == "1.0"
    assert device.verify(NAME).serial == 10
    assert len(device.installed()) == 1
    assert [path.name for path in (device.root / NAME / "slots").glob(".*")] == []


def refused(device, content, signature, says):
    with pytest.raises(FleetError, match=says):
        device.install(Signed("x.xeb", content, signature))


def test_one_altered_bit_anywhere(running, second):
    for position in (0, 30, 300_000, len(second.content) - 1):
        altered = bytearray(second.content)
        altered[position] ^= 1
        refused(running, bytes(altered), second.signature, "altered or damaged")


def test_one_altered_bit_of_the_signature(running, second):
    lines = second.signature.splitlines()
    for line in (1, 3):
        altered = [*lines]
        end = altered[line][-5:]
        altered[line] = altered[line][:-5] + end.swapcase()
        if altered != lines:
            refused(running, second.content, "\n".join(altered), "altered|damaged|does not trust")


def test_a_truncated_file(running, second):
    for length in (0, 1, 1000, len(second.content) - 1):
        refused(running, second.content[:length], second.signature, "altered or damaged")


def test_an_older_serial_although_it_is_signed(running, second, first, manufacturer):
    older = fetch(manufacturer.release("0.9", 9))
    refused(running, older.content, older.signature, "serial 9 is older than 10")
    again = fetch(manufacturer.release("0.9", 10))
    refused(running, again.content, again.signature, "installed with other contents")


def test_a_foreign_key(running, manufacturer):
    foreign = fetch(manufacturer.release("2.0", 22, key=SecretKey.create()))
    refused(running, foreign.content, foreign.signature, "does not trust")
    # Its own signature is wrong: that it may be unsigned does not help.
    with pytest.raises(FleetError, match="does not trust"):
        running.install(foreign, allow_unsigned=True)


def test_a_keyring_s_signature_is_none_of_a_release(running, second, manufacturer):
    signature = manufacturer.root.sign(b"{}", "xrayedge keyring serial 99")
    refused(running, second.content, signature, "altered or damaged")


def crafted(files, compression=zipfile.ZIP_STORED, comment=b""):
    """A zip of (name or ZipInfo, content), as Python's zipfile writes it."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        archive.comment = comment
        for name, content in files:
            archive.writestr(name, content)
    return stream.getvalue()


def link(name, target):
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, 0o120777 << 16
    return info, target


RELEASE = xeb.Release(NAME, "6.6", 66).to_bytes()

TRICKS = {
    "parent": crafted([("../../evil", b"x"), ("release.json", RELEASE)]),
    "absolute": crafted([("/tmp/evil", b"x"), ("release.json", RELEASE)]),
    "drive": crafted([("C:\\evil", b"x"), ("release.json", RELEASE)]),
    "folder": crafted([("a/b", b"x"), ("release.json", RELEASE)]),
    "hidden": crafted([(".unsigned", b""), ("release.json", RELEASE)]),
    "link": crafted([link("manifest.json", b"/etc/passwd"), ("release.json", RELEASE)]),
    "bomb": crafted([("zeros", bytes(50_000_000))], zipfile.ZIP_DEFLATED),
    "many": crafted([(f"f{number}", b"") for number in range(70_000)]),
    "comment": crafted([("release.json", RELEASE)], comment=b"hello"),
    "empty": crafted([]),
    "no zip": b"PK\x03\x04" + bytes(100),
    "no manifest": xeb.pack({"release.json": RELEASE}),
    "no release": xeb.pack({MANIFEST: b"{}"}),
    "serial 0": xeb.pack(
        {MANIFEST: b"{}", "release.json": RELEASE.replace(b'"serial": 66', b'"serial": 0')}
    ),
    "an infinite serial": xeb.pack(
        {MANIFEST: b"{}", "release.json": RELEASE.replace(b'"serial": 66', b'"serial": 1e999')}
    ),
    "brackets in brackets": xeb.pack({MANIFEST: b"{}", "release.json": b"[" * 200_000}),
    "a path as name": xeb.pack(
        {MANIFEST: b"{}", "release.json": RELEASE.replace(b'"chest"', b'"../x"')}
    ),
    "a manifest that is none": xeb.pack({MANIFEST: b"{}", "release.json": RELEASE}),
}


@pytest.mark.parametrize("trick", TRICKS)
def test_a_crafted_archive_even_if_it_is_signed(running, manufacturer, trick, tmp_path):
    content = TRICKS[trick]
    refused(running, content, manufacturer.root.sign(content, "x"), "x.xeb: ")
    assert not (tmp_path / "evil").exists()


def test_entries_that_overlap_or_hide(running, second, manufacturer):
    """A second directory, bytes before and after, and two entries over the same bytes."""
    end = second.content.rindex(b"PK\x05\x06")
    directory = struct.unpack_from("<I", second.content, end + 16)[0]
    doubled = bytearray(second.content)
    doubled[directory + 46] ^= 1  # the directory's name of an entry is not the entry's own
    for content in (
        b"#!/bin/sh\n" + second.content,
        second.content + b"more",
        second.content[:directory] + b"between" + second.content[directory:],
        bytes(doubled),
    ):
        refused(running, content, manufacturer.root.sign(content, "x"), "not a bundle file")


def test_a_file_beside_those_that_the_manifest_names(running, second, manufacturer):
    release, files = xeb.unpack(second.content)
    content = xeb.pack({**files, "extra.py": b"", "release.json": release.to_bytes()})
    refused(running, content, manufacturer.root.sign(content, "x"), "names no such file")


def test_a_release_that_calls_itself_another_model(running, second, manufacturer):
    _, files = xeb.unpack(second.content)
    release = xeb.Release("vgg16-edge", "2.0", 99)
    content = xeb.pack({**files, "release.json": release.to_bytes()})
    refused(running, content, manufacturer.root.sign(content, "x"), "its manifest of chest")
    assert version_in_use("vgg16-edge") != "2.0"
