"""`xrayedge models`: as a manufacturer and a technician type it."""

import threading
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from click.testing import CliRunner
from fleet.factory import NAME, make_bundle, version_in_use

from xrayedge.cli import main
from xrayedge.errors import FleetError
from xrayedge.fleet import Store, fetch, installing, source


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder to work in; what is installed is not examined, as other tests do that."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XRAYEDGE_MODELS", str(tmp_path / "models"))
    monkeypatch.setitem(Store.__init__.__kwdefaults__, "check", lambda folder: None)
    return tmp_path


def run(*arguments, status=0):
    result = CliRunner().invoke(main, ["models", *map(str, arguments)])
    assert result.exit_code == status, result.output
    return result.output


@pytest.fixture
def desk(place):
    """Keys, and releases 1 and 2 of a model, in the folder."""
    run("new-key", "root")
    for version, serial in (("1.0", 1), ("2.0", 2)):
        make_bundle(place / f"bundle-{version}", version)
        run("sign", f"bundle-{version}", "--key", "root", "--serial", serial)
    return place


def test_from_the_desk_to_the_unit_and_back(desk):
    said = run("install", f"{NAME}-1.0.xeb", "--trust", "root.pub")
    assert f"installed: {NAME} 1.0, serial 1" in said
    run("install", f"{NAME}-2.0.xeb")
    assert "2.0" in run("verify", NAME)
    assert "in use" in run("list")
    assert run("rollback", NAME) == f"in use: {NAME} 1.0\n"
    assert "older than 2" in run("install", f"{NAME}-1.0.xeb", status=2)


def test_a_stick_brings_keys_and_the_newest_release(desk):
    run("install", f"{NAME}-1.0.xeb", "--trust", "root.pub")
    run("new-key", "next")
    stick = desk / "stick"
    stick.mkdir()
    for serial in (3, 5, 4):
        run(
            "sign",
            "bundle-2.0",
            "--key",
            "next",
            "--serial",
            serial,
            "--out",
            f"stick/{serial}.xeb",
        )
    assert "does not trust" in run("install", stick, status=2)
    keys = ("--root", "root.pub", "--release", "next.pub")
    run("keyring", "--key", "root", "--serial", 1, *keys, "--out", "stick/keyring.json")
    (stick / "0.xeb").mkdir()  # no file: the others are installed all the same
    assert "serial 5" in run("install", stick)
    assert version_in_use() == "2.0"


def test_what_is_not_signed_needs_a_word(desk):
    assert "--allow-unsigned" in run("install", "bundle-1.0", status=2)
    run("install", "bundle-1.0", "--allow-unsigned")
    assert "nobody" in run("list")
    Path(f"{NAME}-2.0.xeb.minisig").unlink()
    assert "--allow-unsigned" in run("install", f"{NAME}-2.0.xeb", status=2)


def test_one_line_says_what_is_wrong(desk):
    assert run("install", "nosuch.xeb", status=2) == "xrayedge: nosuch.xeb: there is no such file\n"
    assert "not installed" in run("rollback", "nosuch", status=2)
    assert "not in minisign's format" in run("sign", "bundle-1.0", "--key", "root.pub", status=2)
    assert "never overwritten" in run("new-key", "root", status=2)
    assert "not an address" in run("install", "http://[::1/x.xeb", status=2)
    assert "there is no such file" in run("trust", ".", status=2)


@pytest.fixture
def serve():
    """Starts loopback servers with a handler class, and ends them."""
    servers = []

    def start(handler):
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


def test_a_release_comes_by_the_network(desk, serve):
    address = serve(lambda *arguments: Quiet(*arguments, directory=str(desk)))
    run("install", f"{address}/{NAME}-1.0.xeb", "--trust", "root.pub")
    assert version_in_use() == "1.0"
    said = run("install", f"{address}/{NAME}-9.9.xeb", status=2)
    assert "the server answers 404" in said


def answering(status, headers, body):
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments):
            pass

    return Handler


@pytest.mark.parametrize(
    ("status", "headers", "body", "says"),
    [
        (200, {}, bytes(9000), "larger than the 8192 bytes"),
        (200, {"Content-Length": "100"}, b"torn", "broke off"),
        (302, {"Location": "file:///etc/passwd"}, b"", "can't be fetched|answers 302"),
        (302, {"Location": "/"}, b"", "can't be fetched|answers 302"),
        (500, {}, b"", "answers 500"),
    ],
)
def test_a_server_that_is_no_help(serve, status, headers, body, says):
    address = serve(answering(status, headers, body))
    with pytest.raises(FleetError, match=says):
        fetch(f"{address}/x.xeb")


def test_no_server_at_all(serve):
    with pytest.raises(FleetError, match="can't be fetched"):
        fetch("http://127.0.0.1:9/x.xeb")


def test_a_file_is_read_up_to_its_limit(tmp_path):
    path = tmp_path / "large.xeb"
    with path.open("wb") as stream:
        stream.truncate(2000)
    with pytest.raises(FleetError, match="larger than the 1000 bytes"):
        source.fetch(path, 1000)
    assert list(tmp_path.iterdir()) == [path]


def test_an_empty_folder_holds_nothing_for_us(device, tmp_path):
    with pytest.raises(FleetError, match="holds neither"):
        list(installing.install(device, str(tmp_path)))
