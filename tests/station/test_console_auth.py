"""Who may do what on the console: log-in, roles, sessions, other sites, other machines."""

import datetime
import ipaddress
import shutil
import ssl
import stat

import pytest

for package in ("cryptography", "highdicom", "httpx", "starlette", "uvicorn"):
    pytest.importorskip(package)

from click.testing import CliRunner
from consoles import API, Stream, client_of, send

from xrayedge.cli.group import main
from xrayedge.errors import StationError
from xrayedge.station.config import ConsoleConfig, StationConfig
from xrayedge.station.console import auth
from xrayedge.station.console.auth import Attempts, Users, remove_user, set_password
from xrayedge.station.console.server import Console

PASSWORD = "correct horse"


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    """A reader, an operator and an admin, whose hashes cost little."""
    path = tmp_path_factory.mktemp("users") / "users"
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(auth, "_N", 2**10)
        patched.setattr(auth, "_P", 1)
        for name, role in (("rita", "reader"), ("otto", "operator"), ("anna", "admin")):
            set_password(path, name, role, PASSWORD)
    return path


@pytest.fixture
def users(three, tmp_path):
    path = tmp_path / "users"
    shutil.copy(three, path)
    return path


@pytest.fixture
def client(station, users):
    """A console whose users may change, and whose failed log-ins are its own."""
    with station.console(password=users) as client:
        yield client


@pytest.fixture(scope="module")
def shared(station, three):
    with station.console(password=three) as client:
        yield client


@pytest.fixture
def guarded(shared):
    """A new browser; its console is that of all tests which change no user and guess nothing."""
    with another(shared) as client:
        yield client


@pytest.fixture(scope="module")
def named(station):
    with station.console(hosts=("box.hospital",)) as client:
        yield client


def log_in(client, user, password=PASSWORD):
    return client.post(f"{API}/session", json={"user": user, "password": password})


def another(client):
    """Another browser."""
    return client_of(client.base_url)


def test_nobody_sees_anything_before_the_log_in(guarded):
    found = guarded.get(f"{API}/session").json()
    assert found == {"user": None, "role": None, "login_required": True}
    for path in (
        *("station", "screenings", "screenings.csv", f"screenings/{'0' * 32}"),
        *("operating-point", "queue", "audit", "audit/verify", "events"),
    ):
        answer = guarded.get(f"{API}/{path}")
        assert answer.status_code == 401, path
        assert answer.json()["remedy"] == "Log in."
    assert guarded.post(f"{API}/screenings", content=b"x").status_code == 401
    assert guarded.post(f"{API}/example").status_code == 401
    assert guarded.get("/").status_code == 200
    assert guarded.get("/v2/health/live").status_code == 200


def test_a_wrong_password_and_an_unknown_name_are_told_apart_by_nothing(client):
    wrong, unknown = log_in(client, "anna", "wrong horse"), log_in(client, "nobody")
    assert wrong.status_code == unknown.status_code == 401
    assert wrong.json() == unknown.json()
    assert "set-cookie" not in wrong.headers
    assert client.get(f"{API}/station").status_code == 401


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{}", b'{"user": "anna"}', b'{"user": 1, "password": []}', b"[" * 9000, b"\xff"],
)
def test_a_log_in_that_is_none_is_refused(guarded, body):
    assert guarded.post(f"{API}/session", content=body).status_code == 400
    assert guarded.post(f"{API}/session", content=b" " * 20_000).status_code == 413


def test_each_role_may_do_what_it_says(guarded, leg):
    may = {
        "rita": {"look"},
        "otto": {"look", "send"},
        "anna": {"look", "send", "change"},
    }
    for user, allowed in may.items():
        with another(guarded) as browser:
            cookie = log_in(browser, user).headers["set-cookie"]
            for part in ("HttpOnly", "SameSite=strict", "Path=/", "Max-Age=43200"):
                assert part in cookie
            done = {
                "look": browser.get(f"{API}/screenings"),
                "send": browser.post(f"{API}/screenings", content=leg.read_bytes()),
                "change": browser.put(f"{API}/operating-point", json={"name": "balanced"}),
            }
            accept = browser.post(f"{API}/monitor/accept", json={"unit": "nowhere"})
            assert accept.status_code == (404 if user == "anna" else 403)
            assert {name for name, answer in done.items() if answer.status_code < 300} == allowed
            refused = {answer.status_code for answer in done.values()} - {200, 202}
            assert refused <= {403}
            audit = browser.get(f"{API}/audit")
            assert audit.status_code == (200 if user == "anna" else 403)
    assert [one["who"] for one in audit.json()["entries"][:2]] == ["anna", "anna"]
    assert "otto" in {one["who"] for one in audit.json()["entries"]}


def test_prometheus_gives_its_password_with_each_request(client, users):
    assert client.get("/metrics").status_code == 401
    assert client.get("/metrics", auth=("rita", "wrong horse")).status_code == 401
    for _ in range(2):
        answer = client.get("/metrics", auth=("rita", PASSWORD))
        assert answer.status_code == 200
    assert answer.text.startswith("# HELP ")
    assert "set-cookie" not in answer.headers
    # Nothing else takes it: a browser would send it with whatever another site asks for.
    assert client.get(f"{API}/station", auth=("rita", PASSWORD)).status_code == 401
    remove_user(users, "rita")
    assert client.get("/metrics", auth=("rita", PASSWORD)).status_code == 401


def test_a_session_ends(client, users, monkeypatch):
    log_in(client, "rita")
    assert client.get(f"{API}/station").status_code == 200
    for name in ("IDLE_SECONDS", "SESSION_SECONDS"):
        with monkeypatch.context() as patched:
            patched.setattr(auth, name, -1.0)
            assert client.get(f"{API}/station").status_code == 401
        assert client.get(f"{API}/station").status_code == 401  # and does not come back
        log_in(client, "rita")
        assert client.get(f"{API}/station").status_code == 200
    token = client.cookies["xrayedge"]
    client.delete(f"{API}/session")
    assert "xrayedge" not in client.cookies
    client.cookies.set("xrayedge", token)
    assert client.get(f"{API}/station").status_code == 401


def test_who_is_taken_out_or_gets_another_password_is_out_at_once(client, users):
    with another(client) as rita, another(client) as otto:
        log_in(rita, "rita")
        log_in(otto, "otto")
        remove_user(users, "rita")
        set_password(users, "otto", "reader", "another horse")
        assert rita.get(f"{API}/station").status_code == 401
        assert otto.get(f"{API}/station").status_code == 401
        assert log_in(otto, "otto", "another horse").status_code == 204
        assert otto.get(f"{API}/session").json()["role"] == "reader"
    users.write_text("damaged")
    assert log_in(client, "anna").status_code == 401


def test_a_token_that_a_browser_brought_is_never_taken_up(guarded):
    planted = {"cookie": f"xrayedge={'planted' * 6}"}
    body = {"user": "anna", "password": PASSWORD}
    answer = guarded.post(f"{API}/session", json=body, headers=planted)
    assert answer.status_code == 204
    assert "planted" not in answer.headers["set-cookie"]
    with another(guarded) as attacker:
        assert attacker.get(f"{API}/station", headers=planted).status_code == 401


def test_guessing_is_slowed_down(client):
    for _ in range(5):
        assert log_in(client, "anna", "guess").status_code == 401
    log_in(client, "anna", "guess")
    answer = log_in(client, "anna", "guess")
    assert answer.status_code == 429
    assert int(answer.headers["retry-after"]) >= 1


def test_waits_double_and_are_forgotten():
    now = [0.0]
    attempts = Attempts(2, 10.0, lambda: now[0])
    waits = []
    for _ in range(8):
        attempts.failed("a")
        waits.append(attempts.wait("a"))
    assert waits == [0.0, 1.0, 2.0, 4.0, 8.0, 10.0, 10.0, 10.0]
    assert attempts.wait("b") == 0.0
    now[0] = 1000.0
    attempts.failed("a")
    assert attempts.wait("a") == 0.0
    for number in range(10_000):  # a crowd takes no more memory than this
        attempts.failed(str(number))
    assert len(attempts._failures) < 5000


def test_two_browsers_at_once(guarded):
    with another(guarded) as anna, another(guarded) as rita:
        log_in(anna, "anna")
        log_in(rita, "rita")
        stream = Stream(rita).ready()
        anna.put(f"{API}/operating-point", json={"name": "specific"})
        told = stream.until(lambda kind, _: kind == "operating-point")
        assert told["current"] == "specific"
        anna.put(f"{API}/operating-point", json={"name": "balanced"})
        anna.delete(f"{API}/session")
        assert rita.get(f"{API}/station").json()["operating_point"] == "balanced"
        assert anna.get(f"{API}/station").status_code == 401
        # The stream ends with its session, at the next thing that happens.
        rita.delete(f"{API}/session")
        log_in(anna, "anna")
        anna.put(f"{API}/operating-point", json={"name": "sensitive"})
        anna.put(f"{API}/operating-point", json={"name": "balanced"})
        assert [data for _, data in stream.messages() if data["current"] == "sensitive"] == []
        stream.close()


@pytest.mark.parametrize(
    "headers",
    [
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:1"},
    ],
)
def test_another_site_can_do_nothing(guarded, headers):
    log_in(guarded, "anna")
    for method, path in (
        *(("POST", "screenings"), ("POST", "example"), ("POST", "queue/1/retry")),
        *(("PUT", "operating-point"), ("POST", "session"), ("DELETE", "session")),
    ):
        answer = guarded.request(method, f"{API}/{path}", headers=headers, content=b"{}")
        assert answer.status_code == 403, path
        assert answer.json()["error"] == "Another site asked for this."
    assert guarded.get(f"{API}/session").json()["user"] == "anna"


def test_another_site_can_embed_nothing_and_may_link_here(guarded):
    foreign = {"sec-fetch-site": "cross-site"}
    link = {**foreign, "sec-fetch-mode": "navigate"}
    assert guarded.get("/", headers=link).status_code == 200
    assert guarded.get("/", headers={**foreign, "sec-fetch-mode": "no-cors"}).status_code == 403
    assert guarded.get(f"{API}/events", headers=link).status_code == 403
    own = {"origin": str(guarded.base_url).rstrip("/"), "sec-fetch-site": "same-origin"}
    answer = guarded.post(
        f"{API}/session", headers=own, json={"user": "rita", "password": PASSWORD}
    )
    assert answer.status_code == 204


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("evil.example", 421),
        ("localhost.evil.example", 421),
        ("127.0.0.1.evil.example", 421),
        ("localhost@evil.example", 421),
        ("evil.example/localhost", 421),
        ("[::1", 421),
        ("", 421),
        ("0.0.0.0", 421),
        ("localhost:9000", 200),
        ("LOCALHOST", 200),
        ("[::1]:8765", 200),
        ("box.hospital", 200),
    ],
)
def test_a_foreign_host_gets_nothing(named, host, status):
    """A name that an attacker lets point here (DNS rebinding) is not the console's."""
    assert named.get(f"{API}/session", headers={"host": host}).status_code == status


def certificate(folder):
    """A certificate of 127.0.0.1 and its key."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "box")])
    now = datetime.datetime.now(datetime.timezone.utc)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .sign(key, hashes.SHA256())
    )
    cert, secret = folder / "cert.pem", folder / "key.pem"
    cert.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    encoding = serialization.Encoding.PEM
    plain = serialization.PrivateFormat.PKCS8
    secret.write_bytes(key.private_bytes(encoding, plain, serialization.NoEncryption()))
    locked = folder / "locked.pem"
    locked.write_bytes(
        key.private_bytes(encoding, plain, serialization.BestAvailableEncryption(b"x"))
    )
    return cert, secret, locked


def test_with_a_certificate_the_cookie_travels_by_https_alone(station, users, tmp_path):
    cert, key, _ = certificate(tmp_path)
    with station.console(password=users, cert=cert, key=key) as plain:
        url = str(plain.base_url)
        assert url.startswith("https://127.0.0.1:")
        trusting = ssl.create_default_context(cafile=cert)
        with client_of(url, verify=trusting) as client:
            answer = log_in(client, "anna")
            assert answer.status_code == 204
            cookie = answer.headers["set-cookie"]
            assert cookie.startswith("__Host-xrayedge=")
            assert "Secure" in cookie
            assert "Domain" not in cookie
            assert client.get(f"{API}/station").status_code == 200


def test_other_machines_want_certificate_and_password(station, users, tmp_path):
    cert, key, locked = certificate(tmp_path)

    def start(**options):
        config = StationConfig(console=ConsoleConfig(**{"port": 0, **options}))
        console = Console(config, station.state, station.worker)
        console.start()
        console.stop()
        console.join()

    for missing in (
        {"host": "0.0.0.0"},
        {"host": "0.0.0.0", "password": users},
        {"host": "0.0.0.0", "cert": cert, "key": key},
    ):
        with pytest.raises(StationError, match="is open to the network; set cert, key and pass"):
            start(**missing)
    with pytest.raises(StationError, match="no certificate with its key, unencrypted"):
        start(password=users, cert=cert, key=locked)
    with pytest.raises(StationError, match="no certificate with its key, unencrypted"):
        start(password=users, cert=key, key=cert)
    with pytest.raises(StationError, match="can't be read"):
        start(password=tmp_path / "nowhere")
    with station.console() as client, pytest.raises(StationError, match="can't be listened on"):
        start(port=client.base_url.port)


def test_the_command_sets_passwords_and_shows_none(tmp_path):
    path = tmp_path / "users"
    runner = CliRunner()
    command = ["station", "password", str(path), "--user", "anna", "--role", "admin"]
    done = runner.invoke(main, command, input=f"{PASSWORD}\n{PASSWORD}\n")
    assert done.exit_code == 0, done.output
    assert PASSWORD not in done.output
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    content = path.read_text()
    assert PASSWORD not in content
    assert "anna admin scrypt:16384:8:5:" in content
    assert Users(path).check("anna", PASSWORD).identity.role == "admin"
    assert Users(path).check("anna", PASSWORD + " ") is None
    assert runner.invoke(main, command, input="short\nshort\n").exit_code == 2
    assert runner.invoke(main, [*command[:4], "a b"], input=f"{PASSWORD}\n" * 2).exit_code == 2
    assert path.read_text() == content
    config = tmp_path / "station.toml"
    config.write_text('[console]\npassword = "users"\n')
    checked = runner.invoke(main, ["station", "--config", str(config), "check"])
    assert checked.exit_code == 0, checked.output
    removed = runner.invoke(main, [*command[:5], "--remove"])
    assert removed.exit_code == 0, removed.output
    checked = runner.invoke(main, ["station", "--config", str(config), "check"])
    assert checked.exit_code == 2
    assert "names no user" in checked.output + checked.stderr


@pytest.mark.parametrize(
    "line",
    [
        "anna admin",
        "anna boss scrypt:16384:8:5:" + "00" * 16 + ":" + "00" * 32,
        "anna admin md5:16384:8:5:" + "00" * 16 + ":" + "00" * 32,
        "anna admin scrypt:16384:8:5:00:" + "00" * 32,
        "anna admin scrypt:16384:8:5:" + "00" * 16 + ":00",
        "anna admin scrypt:1073741824:8:5:" + "00" * 16 + ":" + "00" * 32,
        "anna admin scrypt:16383:8:5:" + "00" * 16 + ":" + "00" * 32,
        "anna admin scrypt:x:8:5:" + "00" * 16 + ":" + "00" * 32,
        "a/b admin scrypt:16384:8:5:" + "00" * 16 + ":" + "00" * 32,
    ],
)
def test_a_damaged_file_of_users_is_named_in_one_line(tmp_path, line):
    path = tmp_path / "users"
    path.write_text(f"# users\n{line}\n")
    with pytest.raises(StationError, match=r"users: line 2 is not a user") as caught:
        Users(path)
    assert "\n" not in str(caught.value)
    assert "00" not in str(caught.value).replace(str(tmp_path), "")


def test_an_upload_is_in_the_name_of_its_sender(client, station, leg):
    log_in(client, "otto")
    public = send(client, leg.read_bytes() + b"\0")
    assert station.state.store.jobs.of_file(f"{public}.dcm").sender == "otto"
