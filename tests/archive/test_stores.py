"""Images from S3 and from web servers: real ones, on loopback."""

import os
from datetime import datetime, timezone

import pytest

pytest.importorskip("botocore")

from store_server import S3, SECRET, Behaviour, web

from xrayedge.archive import reading, stores
from xrayedge.archive.process import Job
from xrayedge.archive.sources import LeftOut, open_input
from xrayedge.archive.stores import Check, Stores
from xrayedge.archive.web import Web
from xrayedge.errors import ArchiveError, ImageError, TooLargeError
from xrayedge.imaging import Limits

IMAGE = os.urandom(5000)
CLOSED = "127.0.0.1:9"  # discard: nobody listens


@pytest.fixture(scope="module")
def s3():
    """A store with a bucket ``films``."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", "")
        store = S3()
        for name, value in store.environment().items():
            patch.setenv(name, value)
        client = store.client()
        client.create_bucket(Bucket="films")
        for number in range(8):
            client.put_object(Bucket="films", Key=f"2020/{number}.dcm", Body=IMAGE)
        for key in ("2020/notes.txt", "2020/.hidden/1.dcm", "2020/", "2021/a?b#c%20 é.png"):
            client.put_object(Bucket="films", Key=key, Body=IMAGE[:10])
        client.put_object(Bucket="films", Key="2021/empty", Body=b"")
        yield store
        store.stop()


@pytest.fixture(scope="module")
def url():
    with web(IMAGE) as address:
        yield address


def reason_of(source, limits=None):
    with pytest.raises(ImageError) as caught:
        Stores().read(source, limits or Limits())
    return caught.value.reason


def test_a_prefix_is_listed_page_by_page(s3):
    listed = list(Stores().list("s3://films/2020/"))[-9:-1]
    assert listed == [(f"s3://films/2020/{number}.dcm", 5000) for number in range(8)]
    left_out = LeftOut()
    images = [one.source for one in open_input("s3://films/").listed(left_out)]
    assert images[-2:] == ["s3://films/2021/a?b#c%20 é.png", "s3://films/2021/empty"]
    assert len(images) == 10
    assert left_out.not_images == 1


def test_an_object_is_read_whole(s3):
    content, modified = Stores().read("s3://films/2020/1.dcm", Limits())
    assert content == IMAGE
    assert abs((modified - datetime.now(timezone.utc)).total_seconds()) < 3600
    assert Stores().read("s3://films/2021/a?b#c%20 é.png", Limits())[0] == IMAGE[:10]


def test_an_object_that_is_gone_or_too_large_is_a_reason(s3):
    assert reason_of("s3://films/2020/9.dcm") == "not-found"
    with pytest.raises(TooLargeError, match="4999"):
        Stores().read("s3://films/2020/1.dcm", Limits(max_bytes=4999))


def test_a_bucket_that_is_not_there_stops_everything(s3):
    with pytest.raises(ArchiveError, match=r"^s3://none: there is no such bucket$"):
        list(Stores().list("s3://none/x"))
    with pytest.raises(ArchiveError, match="no such bucket"):
        Stores().read("s3://none/x.dcm", Limits())
    with pytest.raises(ArchiveError, match="names no bucket"):
        list(Stores().list("s3:///x"))


def test_wrong_keys_stop_everything_and_are_not_told(s3, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong-" + SECRET)
    s3.ask_for_credentials(yes=True)
    try:
        for attempt in (
            lambda: list(Stores().list("s3://films")),
            lambda: Stores().read("s3://films/2020/1.dcm", Limits()),
            lambda: Check(Stores()).see("s3://films/2020/1.dcm"),
        ):
            with pytest.raises(ArchiveError, match=r"^s3://films: .*AWS_") as caught:
                attempt()
            assert SECRET not in str(caught.value)
            assert "AKIA" not in str(caught.value)
            assert caught.value.__cause__ is None
    finally:
        s3.ask_for_credentials(yes=False)


def test_a_profile_that_is_not_there_is_told(s3, monkeypatch):
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(ArchiveError, match=r"^S3: .*ProfileNotFound"):
        list(Stores().list("s3://films"))


def test_no_network_is_one_line(monkeypatch, s3):
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{CLOSED}")
    with pytest.raises(ArchiveError, match=rf"^s3://films: {CLOSED} can't be reached"):
        list(Stores().list("s3://films"))
    with pytest.raises(ArchiveError, match=f"^http://{CLOSED}: can't be read .*check the network"):
        Check(Stores()).see(f"http://{CLOSED}/1.png")


def test_a_page_is_read_whole(url):
    content, modified = Stores().read(f"{url}/image.png", Limits())
    assert content == IMAGE
    assert modified == datetime(2015, 10, 21, 7, 28, tzinfo=timezone.utc)
    for kind in ("moved/image.png", "busy/image.png", "cut/image.png", "endless/image.png"):
        assert Stores().read(f"{url}/{kind}", Limits())[0] == IMAGE, kind


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("status/404", "not-found"),
        ("status/410", "not-found"),
        ("status/403", "access-denied"),
        ("status/500", "unreachable"),
        ("moved/" * 9 + "x", "unreachable"),
    ],
)
def test_what_a_web_server_does_not_give_is_a_reason(url, path, reason):
    assert reason_of(f"{url}/{path}") == reason


def test_a_web_server_cannot_fill_the_memory(url):
    for kind in ("declared", "endless"):
        with pytest.raises(TooLargeError):
            Stores().read(f"{url}/{kind}/image.png", Limits(max_bytes=4000))


def test_a_slow_web_server_loses_its_image_only(url, monkeypatch):
    monkeypatch.setattr("xrayedge.archive.web.IMAGE_SECONDS", 0.2)
    assert reason_of(f"{url}/drip/image.png") == "unreachable"


def test_an_outage_is_no_row(monkeypatch):
    reader = Stores()
    for _ in range(stores._OUTAGE - 1):
        with pytest.raises(ImageError):
            reader.read(f"http://{CLOSED}/1.png", Limits())
    with pytest.raises(ArchiveError, match="consecutive images can't be reached"):
        reader.read(f"http://{CLOSED}/1.png", Limits())


@pytest.mark.parametrize(
    "secret",
    [
        "https://reader:secret@films.example/1.png",
        "https://films.example/1.png?X-Amz-Signature=secret",
        "HTTPS://films.example/1.png?x=1&access_token=secret",
        "https://films.example/1.png?sv=1&sig=secret",
    ],
)
def test_a_url_with_credentials_is_refused_and_not_told(secret):
    with pytest.raises(ArchiveError, match=r"films\.example") as caught:
        Check(Stores()).see(secret)
    assert "secret" not in str(caught.value)


def test_a_web_server_that_refuses_its_first_images_stops_everything(url):
    check = Check(Stores())
    for number in range(stores._PROBES - 1):
        check.see(f"{url}/status/403/{number}")
    with pytest.raises(ArchiveError, match=r"none of the first images .* 403"):
        check.see(f"{url}/status/403/last")
    short = Check(Stores())
    short.see(f"{url}/status/403/0")
    with pytest.raises(ArchiveError, match="none of the first images"):
        short.end()


def test_a_store_that_misses_some_images_is_none_the_worse(url):
    check = Check(Stores())
    for path in ("status/403/0", "status/404", "image.png", *["status/403/0"] * 9):
        check.see(f"{url}/{path}")
    check.end()


def test_a_password_goes_out_over_https_only(tmp_path, monkeypatch):
    (tmp_path / "netrc").write_text("machine films.example login reader password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    known = Web()
    login = {"authorization": f"Basic {Behaviour.password}"}
    assert known._password("https://films.example/1.png") == login
    assert known._password("http://films.example/1.png") == {}
    assert known._password("https://other.example/1.png") == {}
    (tmp_path / "netrc").write_text("nonsense reader secret")
    with pytest.raises(ArchiveError, match="netrc: can't be read"):
        Web()


def test_all_tries_end_before_a_process_is_ended():
    one_try = reading.TRIES * (reading.CONNECT_SECONDS + reading.READ_SECONDS)
    assert reading.IMAGE_SECONDS + one_try <= Job("vgg16-edge").time_limit
