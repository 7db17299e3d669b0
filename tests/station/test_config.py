"""What a station's configuration takes, and the one line that each mistake gets."""

from pathlib import Path

import pytest

from xrayedge.errors import StationError
from xrayedge.station.config import Peer, StationConfig, load_config

WHOLE = """
[listen]
host = "127.0.0.1"
port = 11113
allow = [{ae = "UNIT1", host = "127.0.0.1"}, {ae = "UNIT2"}]

[[destination]]
name = "pacs"
host = "pacs.example.org"
port = 4242
ae = "ORTHANC"
kinds = ["sc", "sr"]
commitment = true

[[destination]]
name = "web"
stow_url = "http://127.0.0.1:8042/dicom-web/studies"
kinds = ["sr"]

[screen]
min_age = 18
refusals = "sr"

[folder]
path = "inbox"

[keep]
days = 0
"""


def load(folder, text):
    path = folder / "station.toml"
    path.write_text(text)
    return load_config(path)


def test_a_whole_configuration_is_read(tmp_path):
    config = load(tmp_path, WHOLE)
    assert config.listen.allow == (Peer("UNIT1", "127.0.0.1"), Peer("UNIT2", None))
    pacs, web = config.destinations
    assert (pacs.kinds, pacs.commitment, web.kinds) == (("sr", "sc"), True, ("sr",))
    assert config.folder.path == tmp_path / "inbox"
    assert config.screen.min_age == 18.0
    assert config.keep.days is None


def test_an_empty_file_is_the_default(tmp_path):
    assert load(tmp_path, "") == StationConfig()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[listen", "not TOML"),
        ("[lisen]", r"unknown key 'lisen'; did you mean 'listen'"),
        ("[listen]\nprot = 1", r"\[listen\] unknown key 'prot'; did you mean 'port'"),
        ("[listen]\nport = 70000", r"\[listen\] port must be from 1 to 65535, not 70000"),
        ("[listen]\nport = true", r"\[listen\] port must be a whole number"),
        ("[listen]\nae = 'LONGER THAN SIXTEEN'", r"\[listen\] ae must be 1 to 16 characters"),
        ("[listen]\nhost = '10.0.0.300'", "neither an IP address nor a host name"),
        ("[listen]\nhost = '0.0.0.0'", r"\[listen\] allow is empty"),
        ("[listen]\nallow = [{ae = 'A', host = 'a b'}]", r"\[listen\.allow\] host 'a b'"),
        ("[listen]\nallow = 'A'", r"\[listen\] allow must be a list of tables"),
        ("[tls]\ncert = 'nowhere.pem'", r"\[tls\] cert .*nowhere\.pem is not a file"),
        ("[[destination]]\nname = 'a'", r"\[destination\] host is missing"),
        ("[destination]\nname = 'a'", r"destination must be written as \[\[destination\]\]"),
        ("[[destination]]\nname='a'\nkinds=['x']", r'kinds must list "sr", "sc" or both'),
        ("[[destination]]\nname='a'\nstow_url='ftp://x'", "stow_url must begin with http"),
        (
            "[[destination]]\nname='a'\nhost='h'\nport=1\nae='A'\ncommitment=true",
            "add a table \\[listen\\]",
        ),
        ("[[destination]]\nname='a'\nhost='h'\nport=1\nae='A'\ntls=true", r"add a table \[tls\]"),
        (2 * "[[destination]]\nname='a'\nstow_url='http://h'\n", "two destinations are called"),
        ("[console]\nhost = '0.0.0.0'", r"\[console\] host '0.0.0.0' is open to the network"),
        ("[screen]\nmin_age = nan", r"\[screen\] min_age must be from 0 to 150"),
        ("[screen]\nrefusals = 'all'", r'\[screen\] refusals must be "none" or "sr"'),
        ("[folder]\npattern = '*'", r"\[folder\] path is missing"),
        ("[keep]\ndays = -1", r"\[keep\] days must be from 0"),
        ("[keep]\nevents = 10", r"\[keep\] events must be from 1000"),
    ],
)
def test_a_mistake_gets_one_line_that_names_it(tmp_path, text, said):
    with pytest.raises(StationError, match=said) as caught:
        load(tmp_path, text)
    assert "\n" not in str(caught.value)
    assert "station.toml" in str(caught.value)


def test_a_missing_file_gets_a_line():
    with pytest.raises(StationError, match=r"no\.toml: can't be read"):
        load_config(Path("no.toml"))
