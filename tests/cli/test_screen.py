import csv
import json
import os
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import cv2
import pytest
from click.testing import CliRunner
from conftest import VGG16

from xrayedge import read
from xrayedge.cli import main


def run(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def text_file(tmp_path):
    path = tmp_path / "note.txt"
    path.write_text("no image")
    return path


def test_one_call_screens_rejects_and_fails(chest, leg, shoulder_mr, text_file):
    result = run("screen", chest, leg, shoulder_mr, text_file, "--json")
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert [(row["status"], row["reason"]) for row in rows] == [
        ("screened", None),
        ("rejected", "not-frontal"),
        ("rejected", "not-frontal"),
        ("failed", "unreadable"),
    ]
    assert [row["source"] for row in rows] == list(map(str, (chest, leg, shoulder_mr, text_file)))
    assert result.exit_code == 1


def test_all_screened_is_status_zero(chest):
    result = run("screen", chest)
    assert result.exit_code == 0
    assert str(chest) in result.stdout


def test_a_folder_and_its_heatmaps(chest, tmp_path):
    folder, heatmaps = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    (folder / "one.dcm").write_bytes(chest.read_bytes())
    (folder / "list.csv").touch()
    result = run("screen", folder, "--heatmap", heatmaps, "--json")
    assert result.exit_code == 0
    assert [path.name for path in heatmaps.iterdir()] == ["one.dcm.png"]
    assert cv2.imread(str(heatmaps / "one.dcm.png")).shape[0] > 768
    assert len(result.stdout.splitlines()) == 1
    assert "1 files in folders" in result.stderr


def test_an_empty_folder_is_not_a_success(tmp_path):
    result = run("screen", tmp_path)
    assert result.exit_code == 1
    assert "no image found" in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["screen"],
        ["screen", "a.png", "--model", "nothing-like-it"],
        ["screen", "a.png", "--precision", "int2"],
        ["screen", "a.png", "--engine", "tensorrt"],
        ["screen", "a.png", "--threads", "0"],
        ["screen", "a.png", "--precision", "float32", "--model", str(VGG16)],
        ["screen", "a.png", "--out", "results.txt"],
        ["screen", "a.png", "--timeout", "nan"],
        ["screen", "a.png", "-"],
        ["screen", "a.png", "--engine", "litert", "--provider", "TensorrtExecutionProvider"],
        ["bench", "--threads", "²"],
        ["bench", "--data", ".", "--plot", "metric"],
        ["bench", "--data", ".", "--min-agreement", "nan"],
        ["bench", "--compare", "old.json", "new.json", "--rounds", "3"],
        [
            "convert",
            "run",
            "--data",
            "d",
            "--out",
            "o",
            "--frontal-run",
            "r",
            "--frontal-data",
            "d",
            "--frontal-from",
            "b",
        ],
        ["train", "no-such-folder", "--out", "run", "--weights", "no-such-file.npz"],
        ["train", "no-such-folder", "--out", "run", "--start", "r", "--weights", __file__],
        ["train", "no-such-folder", "--out", "run"],
        ["train", "no-such-folder", "--out", "run", "--recipe", "resnet"],
        ["train", "no-such-folder", "--out", "run", "--where", "set"],
    ],
)
def test_wrong_usage_is_status_two_and_one_message(arguments, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.strip()
    assert "Traceback" not in result.stderr


@pytest.fixture
def thousand(tmp_path, chest):
    """A folder of 1,000 files: 50 broken, 50 chests, and the others too small, to save time."""
    folder = tmp_path / "thousand"
    folder.mkdir()
    whole = cv2.imencode(".png", cv2.resize(read(chest).pixels, (160, 160)))[1].tobytes()
    small = cv2.imencode(".png", cv2.resize(read(chest).pixels, (40, 40)))[1].tobytes()
    contents = {7: whole[:-500], 11: whole}
    for number in range(1000):
        (folder / f"{number:04}.png").write_bytes(contents.get(number % 20, small))
    return folder


SUMMARY = "50 failed, 900 rejected, 50 screened"


@pytest.mark.parametrize("threads", [1, 2])
def test_a_thousand_files_with_fifty_broken_ones(thousand, tmp_path, threads):
    output = tmp_path / "results.csv"
    result = run("screen", thousand, "--out", output, "--threads", threads)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.splitlines()[-1] == SUMMARY
    assert "\r" not in result.stderr  # no progress bar where there is no terminal
    with output.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [Path(row["source"]).name for row in rows] == [f"{n:04}.png" for n in range(1000)]
    assert {number for number, row in enumerate(rows) if row["status"] == "failed"} == {
        *range(7, 1000, 20)
    }


@pytest.mark.parametrize("name", ["results.csv", "results.jsonl"])
def test_a_killed_run_loses_nothing_and_goes_on(thousand, tmp_path, name):
    output = tmp_path / name
    command = [sys.executable, "-m", "xrayedge", "screen", str(thousand), "--out", str(output)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    while process.poll() is None and (not output.exists() or output.stat().st_size < 20_000):
        time.sleep(0.01)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    finished = output.read_bytes()
    output.write_bytes(finished + b"half a row")
    result = run("screen", thousand, "--out", output)
    assert result.exit_code == 1
    assert "are in" in result.stderr
    assert result.stderr.splitlines()[-1] == SUMMARY
    assert output.read_bytes().startswith(finished)
    rows = output.read_text().splitlines()
    assert len(rows) == 1000 + (output.suffix == ".csv")
    assert all(f"{number:04}.png" in row for number, row in enumerate(rows[-1000:]))


def test_a_terminal_shows_a_progress_bar(thousand, tmp_path):
    pty = pytest.importorskip("pty")
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "xrayedge", "screen", str(thousand), "--out"]
    with subprocess.Popen(
        [*command, str(tmp_path / "results.csv")],
        stderr=theirs,
        env={**os.environ, "TERM": "xterm"},
    ) as process:
        os.close(theirs)
        seen = b""
        while b"/1000" not in seen:
            seen += os.read(ours, 1000)
        process.kill()
    os.close(ours)


def test_results_of_another_model_are_not_mixed(chest, tmp_path):
    output = tmp_path / "results.jsonl"
    assert run("screen", chest, "--out", output).exit_code == 0
    result = run("screen", chest, "--out", output, "--precision", "float16")
    assert result.exit_code == 2
    assert "another model" in result.stderr
    (tmp_path / "notes.csv").write_text("what,why\n1,2\n")
    result = run("screen", chest, "--out", tmp_path / "notes.csv")
    assert result.exit_code == 2
    assert "not a file of this model's results" in result.stderr
    assert (tmp_path / "notes.csv").read_text() == "what,why\n1,2\n"


def test_names_that_are_no_text_do_not_stop_a_batch(chest, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    names = [b"a\xff.dcm", b"b\nc.dcm", b"[red]d.dcm", b'e,"f.dcm']
    for name in names:
        (folder / os.fsdecode(name)).symlink_to(chest)
    for suffix in (".csv", ".jsonl"):
        output = tmp_path / f"results{suffix}"
        for _ in range(2):
            assert run("screen", folder, "--out", output).exit_code == 0
        assert len(output.read_text().splitlines()) == len(names) + (suffix == ".csv")
    result = run("screen", folder)
    assert result.exit_code == 0
    assert len(result.stdout.splitlines()) == len(names)
    assert "[red]d.dcm" in result.stdout


def test_nothing_of_the_patient_comes_out(chest, tmp_path, caplog):
    """Every text value of a file is marked; none of them may be seen in what is written."""
    pydicom = pytest.importorskip("pydicom")
    folder, heatmaps = tmp_path / "in", tmp_path / "heatmaps"
    folder.mkdir()
    marked = pydicom.dcmread(chest)
    for element in marked:
        if element.VR in ("LO", "SH", "PN", "LT", "ST", "UT"):
            element.value = "CANARY"
    marked.save_as(folder / "whole.dcm")
    content = (folder / "whole.dcm").read_bytes()
    (folder / "cut.dcm").write_bytes(content[: len(content) // 2])
    (folder / "odd.dcm").write_bytes(content.replace(b"MONOCHROME1", b"CANARY\xff\xfe\xfd\xfc\xfb"))
    for options in ((), ("--json",)):
        result = run("screen", folder, "--heatmap", heatmaps, *options)
        assert result.exit_code == 1
        assert "CANARY" not in result.output + caplog.text
    (overlay,) = heatmaps.iterdir()
    assert overlay.name == "whole.dcm.png"
    data, chunks, position = overlay.read_bytes(), [], 8
    while position < len(data):
        length, kind = struct.unpack(">I4s", data[position : position + 8])
        chunks.append(kind)
        position += length + 12
    assert set(chunks) == {b"IHDR", b"IDAT", b"IEND"}  # no text, no time, no EXIF


def test_auto_orient(chest, tmp_path):
    path = tmp_path / "upside-down.png"
    cv2.imwrite(str(path), read(chest).pixels[::-1, ::-1])
    result = run("screen", path)
    assert result.exit_code == 1
    assert "turned by 180 degrees" in result.stdout
    result = run("screen", path, "--auto-orient", "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["corrections"] == ["turned-180"]


def test_limits(chest):
    assert "too-large" in run("screen", chest, "--max-pixels", 1000).stdout
    assert "too-large" in run("screen", chest, "--max-bytes", 1000).stdout


def test_dicom_results_for_dicom_images(chest, tmp_path):
    pydicom = pytest.importorskip("pydicom")
    pytest.importorskip("highdicom")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.dcm").write_bytes(chest.read_bytes())
    cv2.imwrite(str(tmp_path / "in" / "b.png"), read(chest).pixels)
    out = tmp_path / "out"
    result = run("screen", tmp_path / "in", "--dicom-sr", out, "--dicom-sc", out)
    assert result.exit_code == 0
    assert sorted(path.name for path in out.iterdir()) == ["a.dcm.sc.dcm", "a.dcm.sr.dcm"]
    assert "b.png: not a DICOM file" in result.stderr
    study = pydicom.dcmread(chest).StudyInstanceUID
    assert all(pydicom.dcmread(path).StudyInstanceUID == study for path in out.iterdir())


def screen(*arguments, **options):
    """`xrayedge screen` in a process of its own."""
    command = [sys.executable, "-m", "xrayedge", "screen", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, check=False, **options)


def test_nothing_is_printed_but_results(chest):
    """TensorFlow Lite's own line about its delegate is written by C++, past `sys.stderr`."""
    ran = screen(chest, "--json")
    assert ran.returncode == 0
    assert ran.stderr == b""
    assert len(ran.stdout.splitlines()) == 1


def test_the_old_name_of_out_still_works(chest, tmp_path):
    assert run("screen", chest, "--output", tmp_path / "old.jsonl").exit_code == 0
    assert len((tmp_path / "old.jsonl").read_text().splitlines()) == 1
    assert "--output" not in run("screen", "--help").stdout
    assert run("screen", chest, "--output", "a.csv", "--out", "b.csv").exit_code == 2


def test_one_file_named_twice_gives_one_result_and_one_heatmap(chest, tmp_path):
    result = run("screen", chest, chest, "--heatmap", tmp_path / "maps", "--json")
    assert result.exit_code == 0
    assert len(result.stdout.splitlines()) == 1
    assert [path.name for path in (tmp_path / "maps").iterdir()] == [f"{chest.name}.png"]


def test_a_limit_is_told_by_its_option(chest):
    for option in ("--max-pixels", "--max-bytes"):
        shown = run("screen", chest, option, 1000).stdout
        assert option in shown
        assert "Limits." not in shown


def test_an_output_that_cannot_be_written_is_status_two(chest, tmp_path):
    (tmp_path / "file").touch()
    for options in (
        ("--out", tmp_path / "file" / "results.csv"),
        ("--out", tmp_path / ("a" * 300 + ".csv")),
        ("--heatmap", tmp_path / "file"),
        ("--heatmap", tmp_path / ("a" * 300)),
    ):
        result = run("screen", chest, *options)
        assert result.exit_code == 2, options
        assert result.stdout == ""
        assert "Traceback" not in result.stderr


def test_a_name_that_is_too_long_is_a_failed_image(chest):
    result = run("screen", "a" * 300 + ".png", chest, "--json")
    assert [json.loads(line)["status"] for line in result.stdout.splitlines()] == [
        "failed",
        "screened",
    ]


def test_a_full_disk_behind_stdout_is_status_two(chest):
    with Path("/dev/full").open("wb") as full:
        command = [sys.executable, "-m", "xrayedge", "screen", str(chest), "--json"]
        ran = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, check=False)
    assert ran.returncode == 2
    assert ran.stderr == b"xrayedge: No space left on device\n"


def test_an_image_comes_on_stdin(chest):
    ran = screen("-", "--json", input=chest.read_bytes())
    assert ran.returncode == 0
    (row,) = map(json.loads, ran.stdout.splitlines())
    assert row["status"] == "screened"
    ran = screen("-", "--out", "results.csv", input=chest.read_bytes())
    assert ran.returncode == 2
    assert b"--out has no effect" in ran.stderr
    ran = screen("-", "--json", "--max-bytes", "1000", input=chest.read_bytes())
    assert json.loads(ran.stdout)["reason"] == "too-large"


@pytest.mark.parametrize("end", ["\n", "\r\n", "\0"])
def test_paths_come_on_stdin(chest, leg, text_file, end):
    paths = (chest, leg, text_file)
    ran = screen("-", "--json", input="".join(f"{path}{end}" for path in paths).encode())
    assert [json.loads(line)["source"] for line in ran.stdout.splitlines()] == list(map(str, paths))
    assert ran.returncode == 1
    assert ran.stderr == b"1 failed, 1 rejected, 1 screened\n"


def test_a_long_running_process_answers_line_by_line(chest, text_file, tmp_path):
    odd = tmp_path / "line\nfeed.dcm"
    odd.symlink_to(chest)
    command = [sys.executable, "-m", "xrayedge", "screen", "-", "--json", "--threads", "2"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        for path, line in (
            (chest, str(chest)),
            (text_file, str(text_file)),
            (odd, json.dumps(str(odd))),
            (chest, str(chest)),
        ):
            process.stdin.write(f"{line}\n".encode())
            process.stdin.flush()
            assert json.loads(process.stdout.readline())["source"] == str(path)
        process.stdin.close()
        assert process.wait() == 1


def test_ctrl_c_is_status_130_and_says_how_to_go_on(thousand, tmp_path):
    output = tmp_path / "results.jsonl"
    command = [sys.executable, "-m", "xrayedge", "screen", str(thousand), "--out", str(output)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        while process.poll() is None and (not output.exists() or output.stat().st_size < 5_000):
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        said = process.stderr.read()
    assert process.returncode == 130
    assert f"images are in {output}; run the same command to resume" in said
    assert said.endswith("xrayedge: interrupted\n")
    assert all(json.loads(line) for line in output.read_text().splitlines())
