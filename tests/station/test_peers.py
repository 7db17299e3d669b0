"""The station between real peers: dcmtk sends, Orthanc keeps; nothing is lost and nothing twice."""

import os
import random
import shutil
import subprocess
import sys
import time

import pytest

pydicom = pytest.importorskip("pydicom")
pytest.importorskip("pynetdicom")

from conftest import dicom_file
from pacs import Orthanc, Station, wait_for

pytestmark = pytest.mark.peers

LISTEN = "[listen]\nport = 11112\n"
PACS = """
[[destination]]
name = "pacs"
host = "127.0.0.1"
port = 4242
ae = "ORTHANC"
"""


@pytest.fixture(scope="module")
def pacs(namespace, tmp_path_factory):
    return Orthanc(namespace, tmp_path_factory.mktemp("orthanc"))


@pytest.fixture(scope="module")
def variants(tmp_path_factory):
    """RG1 in several transfer syntaxes, each with UIDs of its own."""
    folder = tmp_path_factory.mktemp("images")
    uid = pydicom.uid
    made = {}
    for name, option in (
        ("explicit", "-xe"),
        ("implicit", "-xi"),
        ("rle", "-xr"),
        ("lossless", "-xs"),
        ("jpeg2000", "-xv"),
    ):
        dataset = pydicom.dcmread(dicom_file("RG1_UNCR.dcm"))
        if name == "jpeg2000":
            dataset.compress(uid.JPEG2000Lossless, generate_instance_uid=False)
        elif name == "rle":
            dataset.compress(uid.RLELossless, generate_instance_uid=False)
        identify(dataset)
        path = folder / f"{name}.dcm"
        dataset.save_as(path)
        if name == "lossless":
            jpeg = folder / "lossless-jpeg.dcm"
            subprocess.run(["dcmcjpeg", "+e1", path, jpeg], check=True, capture_output=True)
            path = jpeg
        made[name] = (path, option)
    return made


def identify(dataset):
    """Give an image and its study UIDs of its own."""
    dataset.SOPInstanceUID = pydicom.uid.generate_uid()
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.StudyInstanceUID = pydicom.uid.generate_uid()
    dataset.SeriesInstanceUID = pydicom.uid.generate_uid()
    return dataset


def copies(folder, number):
    """So many small images, each a study of its own."""
    folder.mkdir(exist_ok=True)
    dataset = pydicom.dcmread(dicom_file("RG1_UNCR.dcm"))
    small = dataset.pixel_array[::4, ::4]
    dataset.Rows, dataset.Columns = small.shape
    dataset.PixelData = small.tobytes()
    paths = []
    for one in range(number):
        paths.append(folder / f"{one}.dcm")
        identify(dataset).save_as(paths[-1])
    return paths


def delivered(pacs):
    """(modality, study) of what the PACS keeps."""
    return sorted((modality, study) for modality, study, _, _ in pacs.instances())


def expected(paths, kinds=("OT", "SR")):
    studies = [pydicom.dcmread(path, stop_before_pixels=True).StudyInstanceUID for path in paths]
    return sorted((kind, study) for study in studies for kind in kinds)


def test_every_transfer_syntax_gets_its_results_into_its_study(namespace, pacs, variants, tmp_path):
    station = Station(namespace, tmp_path / "station", LISTEN + PACS + "commitment = true\n")
    assert "ok    pacs: answers C-ECHO" in station.run("check").stdout
    assert namespace.run("echoscu", "-aec", "XRAYEDGE", "127.0.0.1", "11112").returncode == 0
    for path, option in variants.values():
        sent = namespace.store(path, port=11112, options=[option])
        assert sent.returncode == 0, sent.stderr
    station.wait_until_done(len(variants), 2 * len(variants))
    paths = [path for path, _ in variants.values()]
    assert delivered(pacs) == expected(paths)
    assert {job.result["label"] for job in station.jobs()} == {"pneumonia"}
    wait_for(lambda: all(send.state == "committed" for send in station.sends()), "all is committed")
    # The same once more is taken, and makes nothing new.
    assert namespace.store(paths[0], port=11112, options=["-xe"]).returncode == 0
    assert len(station.jobs()) == len(variants)
    assert station.stop() == 0
    names = [path.name for path in station.state.rglob("*")]
    uids = [send.sop_instance_uid for send in station.sends()]
    assert not [uid for uid in uids if uid in station.said() + "".join(names)]
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy is not here: apt-get install dicom3tools")
    for modality, _, _, number in pacs.instances():
        file = pacs.file(number, tmp_path / f"{number}.dcm")
        judged = subprocess.run(["dciodvfy", "-new", file], capture_output=True, text=True)
        assert "Error" not in judged.stderr, (modality, judged.stderr)


def test_a_pacs_that_is_away_gets_everything_when_it_is_back(namespace, tmp_path):
    pacs = Orthanc(namespace, tmp_path / "pacs", dicom=4243, http=8043)
    pacs.stop()
    paths = copies(tmp_path / "images", 2)
    config = LISTEN + PACS.replace("4242", "4243")
    station = Station(namespace, tmp_path / "station", config)
    assert namespace.store(*paths, port=11112).returncode == 0
    station.wait_until_done(2)
    wait_for(lambda: all(one.detail for one in station.sends()), "it is noted why they wait")
    assert {send.state for send in station.sends()} == {"queued"}
    shown = station.run("queue").stdout
    assert "S1  queued  sr of J1 to pacs  can't be reached" in shown
    pacs.start()
    station.stop()
    station.start()  # tries at once
    station.wait_until_done(2, 4)
    assert delivered(pacs) == expected(paths)
    station.stop()
    pacs.stop()


def test_dicomweb_gets_the_results_too(namespace, pacs, tmp_path):
    if not pacs.has_dicomweb:
        pytest.skip("Orthanc's DICOMweb is not here: apt-get install orthanc-dicomweb")
    url = f"http://127.0.0.1:{pacs.http}/dicom-web/studies"
    config = f'{LISTEN}[[destination]]\nname = "web"\nstow_url = "{url}"\n'
    (path,) = copies(tmp_path / "images", 1)
    station = Station(namespace, tmp_path / "station", config)
    assert "ok    web: answers, HTTP status 200" in station.run("check").stdout
    assert namespace.store(path, port=11112).returncode == 0
    station.wait_until_done(1, 2)
    assert set(expected([path])) <= set(delivered(pacs))
    assert station.stop() == 0


def test_a_peer_that_takes_no_jpeg_gets_the_overlay_plain(namespace, tmp_path):
    kept = tmp_path / "kept"
    kept.mkdir()
    peer = namespace.start("storescp", "-aet", "ORTHANC", "-od", kept, "4246")
    wait_for(lambda: namespace.listens(4246), "storescp listens")
    (path,) = copies(tmp_path / "images", 1)
    station = Station(namespace, tmp_path / "station", LISTEN + PACS.replace("4242", "4246"))
    assert namespace.store(path, port=11112).returncode == 0
    station.wait_until_done(1, 2)
    (capture,) = [one for one in map(pydicom.dcmread, kept.iterdir()) if one.Modality == "OT"]
    assert capture.file_meta.TransferSyntaxUID == pydicom.uid.ExplicitVRLittleEndian
    assert capture.PhotometricInterpretation == "RGB"
    assert {send.sop_instance_uid for send in station.sends()} >= {capture.SOPInstanceUID}
    station.stop()
    namespace.stop(peer)


def test_a_pacs_that_refuses_is_never_taken_for_one_that_stored(namespace, tmp_path):
    program = tmp_path / "refuse.py"
    program.write_text(REFUSING)
    refusing = namespace.start(sys.executable, program, "4244")
    wait_for(lambda: namespace.listens(4244), "the peer that refuses listens")
    (path,) = copies(tmp_path / "images", 1)
    station = Station(namespace, tmp_path / "station", LISTEN + PACS.replace("4242", "4244"))
    assert namespace.store(path, port=11112).returncode == 0
    station.wait_until_done(1)
    wait_for(lambda: all(one.detail for one in station.sends()), "the peer has refused")
    assert {send.state for send in station.sends()} == {"queued"}
    assert "status" in station.sends()[0].detail
    station.stop()
    namespace.stop(refusing)


REFUSING = """
import sys
from pynetdicom import AE, evt, AllStoragePresentationContexts
from pydicom.uid import JPEGBaseline8Bit, ExplicitVRLittleEndian
ae = AE("ORTHANC")
for context in AllStoragePresentationContexts:
    ae.add_supported_context(
        context.abstract_syntax, [ExplicitVRLittleEndian, JPEGBaseline8Bit]
    )
ae.start_server(
    ("127.0.0.1", int(sys.argv[1])), evt_handlers=[(evt.EVT_C_STORE, lambda event: 0xC123)]
)
"""


def test_who_is_not_allowed_and_what_is_too_large_is_turned_away(namespace, tmp_path):
    config = """
[listen]
port = 11112
allow = [{ae = "UNIT1", host = "127.0.0.1"}]
max_bytes = 1_000_000
max_associations = 4
"""
    small, other = copies(tmp_path / "images", 2)
    station = Station(namespace, tmp_path / "station", config)
    assert namespace.store(small, port=11112, calling="STRANGER").returncode != 0
    assert namespace.store(small, port=11112, called="OTHER").returncode != 0
    assert namespace.store(dicom_file("RG1_UNCR.dcm"), port=11112).returncode != 0  # 3.5 MB
    assert station.jobs() == []
    wait_for(lambda: not list((station.state / "tmp").iterdir()), "what was broken off is gone")
    assert namespace.store(small, port=11112).returncode == 0
    assert namespace.store(other, port=11112).returncode == 0
    station.wait_until_done(2)
    assert station.stop() == 0


def test_a_kill_in_any_state_loses_nothing_and_doubles_nothing(namespace, tmp_path):
    killed(namespace, tmp_path, kills=6, seed=1)


@pytest.mark.slow
def test_memory_stays_flat_over_a_busy_day(namespace, tmp_path):
    number = int(os.environ.get("XRAYEDGE_DAY_IMAGES", "500"))
    kept = tmp_path / "kept"
    kept.mkdir()
    peer = namespace.start("storescp", "-aet", "ORTHANC", "-od", kept, "4247")
    wait_for(lambda: namespace.listens(4247), "storescp listens")
    station = Station(namespace, tmp_path / "station", LISTEN + PACS.replace("4242", "4247"))
    paths = copies(tmp_path / "images", number)
    step = number // 10
    memory = []
    for start in range(0, number, step):
        assert namespace.store(*paths[start : start + step], port=11112).returncode == 0
        station.wait_until_done(start + step, 2 * (start + step))
        memory.append(station.resident_mb())
    print(f"{number} images, resident MB after each tenth: {[round(one) for one in memory]}")
    assert max(memory[5:]) < 1.05 * max(memory[:5])
    assert len(list(kept.iterdir())) == 2 * number
    assert station.stop() == 0
    namespace.stop(peer)


@pytest.mark.slow
def test_two_hundred_kills_lose_nothing_and_double_nothing(namespace, tmp_path):
    minutes = float(os.environ.get("XRAYEDGE_KILL_MINUTES", "30"))
    killed(namespace, tmp_path, kills=200, seed=2, minutes=minutes)


def killed(namespace, tmp_path, *, kills, seed, minutes=5.0):
    """Send images, kill the station at random moments, and compare what was acknowledged."""
    pacs = Orthanc(namespace, tmp_path / "pacs", dicom=4245, http=8045)
    station = Station(namespace, tmp_path / "station", LISTEN + PACS.replace("4242", "4245"))
    moments = random.Random(seed)
    acknowledged = []
    paths = copies(tmp_path / "images", kills)
    span = 0.0
    deadline = time.monotonic() + 60.0 * minutes
    for done, path in enumerate(paths):
        if time.monotonic() > deadline:
            paths, kills = paths[:done], done
            break
        sending = namespace.start(
            *("storescu", "-aet", "UNIT1", "-aec", "XRAYEDGE", "127.0.0.1", "11112", path)
        )
        if done == 0:  # undisturbed, to know how long all of it takes here
            began = time.monotonic()
            station.wait_until_done(1, 2)
            span = time.monotonic() - began
        else:
            time.sleep(moments.uniform(0.0, span))
        station.kill()
        if sending.wait(timeout=60) == 0:
            acknowledged.append(path)
        station.start()
    for path in paths:  # a unit sends again what was not acknowledged
        if path not in acknowledged:
            assert namespace.store(path, port=11112).returncode == 0
    jobs = station.jobs()
    aside = [job for job in jobs if job.state == "set-aside"]
    print(f"{kills} kills, {len(acknowledged)} acknowledged at once, {len(aside)} set aside")
    for job in aside:  # killed three times in one image: a person's turn
        assert station.run("queue", "--retry", f"J{job.id}").returncode == 0
    station.wait_until_done(kills, 2 * kills)
    assert len(station.jobs()) == kills
    assert {job.state for job in station.jobs()} == {"done"}
    assert delivered(pacs) == expected(paths)
    assert station.stop() == 0
    assert len(list((station.state / "outbox").iterdir())) == 2 * kills
    # An image that was set aside stays in that folder until the next start.
    images = [*(station.state / "incoming").iterdir(), *(station.state / "set-aside").iterdir()]
    assert len(images) == kills
    pacs.stop()
