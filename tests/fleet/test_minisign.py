"""Keys and signatures, against Debian's minisign."""

import base64
import errno
import os
import shutil
import subprocess

import pytest
from fleet.factory import NAME

from xrayedge.errors import FleetError
from xrayedge.fleet import PasswordNeededError, PublicKey, SecretKey, Store, fetch
from xrayedge.fleet import minisign as minisign_format
from xrayedge.fleet.minisign import verify

needs_minisign = pytest.mark.skipif(
    shutil.which("minisign") is None, reason="Debian's minisign is not installed"
)


def minisign(*arguments, stdin=""):
    return subprocess.run(
        ["minisign", *map(str, arguments)], input=stdin, capture_output=True, text=True, check=False
    )


@needs_minisign
def test_minisign_verifies_what_we_sign(manufacturer, tmp_path):
    release = manufacturer.release("1.0", 10)
    key = tmp_path / "root.pub"
    key.write_text(manufacturer.root.public().to_file())
    done = minisign("-V", "-m", release, "-p", key)
    assert done.returncode == 0, done.stderr
    assert f"xrayedge {NAME} 1.0 serial 10" in done.stdout

    altered = tmp_path / "altered.xeb"
    altered.write_bytes(release.read_bytes()[:-1] + b"\1")
    shutil.copy(f"{release}.minisig", f"{altered}.minisig")
    assert minisign("-V", "-m", altered, "-p", key).returncode != 0


@needs_minisign
def test_we_install_what_minisign_signed(manufacturer, tmp_path):
    secret, public = tmp_path / "k.key", tmp_path / "k.pub"
    assert minisign("-G", "-W", "-s", secret, "-p", public).returncode == 0
    release = shutil.copy(manufacturer.release("1.0", 10), tmp_path / "by-minisign.xeb")
    done = minisign("-S", "-W", "-s", secret, "-m", release)
    assert done.returncode == 0, done.stderr
    device = Store(tmp_path / "models", check=lambda folder: None)
    device.pin(PublicKey.read(public))
    assert device.install(fetch(release)).signer == PublicKey.read(public).id

    own = SecretKey.read(secret)
    assert own.public() == PublicKey.read(public)
    rewritten = tmp_path / "rewritten.key"
    own.write(rewritten)
    assert minisign("-S", "-W", "-s", rewritten, "-m", release).returncode == 0
    assert rewritten.stat().st_mode & 0o077 == 0


@needs_minisign
@pytest.mark.slow
def test_a_key_with_a_password_is_read(tmp_path):
    """Scrypt with a gigabyte of memory, as minisign writes it."""
    secret, public = tmp_path / "k.key", tmp_path / "k.pub"
    done = minisign("-G", "-s", secret, "-p", public, stdin="open sesame\nopen sesame\n")
    assert done.returncode == 0, done.stderr
    assert SecretKey.read(secret, "open sesame").public() == PublicKey.read(public)
    with pytest.raises(FleetError, match="wrong password"):
        SecretKey.read(secret, "sesame")
    with pytest.raises(PasswordNeededError):
        SecretKey.read(secret)


def test_a_key_is_never_overwritten(tmp_path):
    path = tmp_path / "k.key"
    key = SecretKey.create()
    key.write(path)
    with pytest.raises(FleetError, match="never overwritten"):
        SecretKey.create().write(path)
    assert SecretKey.read(path) == key


def test_half_a_key_is_not_left_where_the_disk_is_full(tmp_path, monkeypatch):
    path, key = tmp_path / "k.key", SecretKey.create()

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(FleetError, match="No space left"):
            key.write(path)
    key.write(path)
    assert SecretKey.read(path) == key


def test_a_damaged_key_with_a_password_says_so(tmp_path):
    """Its limit on memory is 0: no scrypt has such parameters."""
    packed = minisign_format._SECRET.pack(
        b"Ed", b"Sc", b"B2", bytes(32), (1 << 64) - 1, 0, bytes(104)
    )
    path = tmp_path / "k.key"
    path.write_text(f"untrusted comment: x\n{base64.b64encode(packed).decode()}\n")
    with pytest.raises(FleetError, match="damaged"):
        SecretKey.read(path, "open sesame")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "public key"),
        ("not base64!", "public key"),
        ("AAAA", "public key"),
        ("x" * 10_000, "too large"),
    ],
)
def test_a_file_that_is_no_key_says_so(tmp_path, text, says):
    path = tmp_path / "k.pub"
    path.write_text(text)
    with pytest.raises(FleetError, match=says) as error:
        PublicKey.read(path)
    assert str(path) in str(error.value)


def test_the_comment_is_signed_too():
    key = SecretKey.create()
    signature = key.sign(b"content", "serial 7")
    assert verify(b"content", signature, [key.public()]) == key.public()
    with pytest.raises(FleetError, match="altered"):
        verify(b"content", signature.replace("serial 7", "serial 8"), [key.public()])


def test_a_key_with_a_trusted_key_s_number_is_another_key():
    key = SecretKey.create()
    forger = SecretKey(key.number, SecretKey.create().seed)
    with pytest.raises(FleetError, match="altered"):
        verify(b"content", forger.sign(b"content", "x"), [key.public()])


@pytest.mark.parametrize("lines", [0, 1, 3, 5])
def test_a_torn_signature_file_is_refused(lines):
    key = SecretKey.create()
    signature = "\n".join((key.sign(b"content", "x").splitlines() * 2)[:lines])
    with pytest.raises(FleetError, match="damaged"):
        verify(b"content", signature, [key.public()])
