"""What files may take of the memory: bombs are refused before they go off, others are read."""

import gzip
import inspect
import io
import os
import struct
import subprocess
import sys
import threading
import zipfile
import zlib

import numpy as np
import pytest

import xpnn
import xpnn.study
from tests.helpers import failed, run, write_folder
from xpnn._core import limits
from xpnn.datasets import load
from xpnn.datasets.readers.idx import read_idx
from xpnn.errors import ArgumentError, DataError

LARGE = r" would take .*; if you trust the file, --max-bytes N, in Python max_bytes=N, allows it"


@pytest.fixture
def low(monkeypatch):
    """Let compressed files have 20 kB, or three times their size."""
    monkeypatch.setattr(limits, "_SMALL", 20_000)
    monkeypatch.setattr(limits, "_RATIO", 3)


def png(width, height, rows=b""):
    """Return a PNG of any size in its header."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    raw = b"\x89PNG\r\n\x1a\n"
    for name, content in ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")):
        raw += len(content).to_bytes(4, "big") + name + content
        raw += zlib.crc32(name + content).to_bytes(4, "big")
    return raw


def test_a_gzipped_table_that_grows(tmp_path, low):
    path = tmp_path / "d.csv.gz"
    path.write_bytes(gzip.compress(b"p,q\n" + b"1.0,2.0\n" * 10_000))
    with pytest.raises(DataError, match=rf"d\.csv\.gz{LARGE}"):
        load(path)
    assert len(load(path, max_bytes=100_000).x) == 10_000
    # a table that hardly grows may be of any size
    rows = np.random.RandomState(0).rand(5000, 2)
    path.write_bytes(gzip.compress("\n".join(f"{a!r},{b!r}" for a, b in rows.tolist()).encode()))
    assert path.stat().st_size > 80_000
    assert len(load(path).x) == 5000


def test_a_table_on_the_disk_may_have_what_memory_is_free(tmp_path, monkeypatch):
    path = tmp_path / "d.csv"
    path.write_text("1.0,2.0\n" * 3000)
    assert len(load(path).x) == 3000
    monkeypatch.setattr(limits, "memory", lambda: 20_000)
    with pytest.raises(DataError, match=r"d\.csv would take 24000 bytes of memory.* 20000 bytes"):
        load(path)
    assert len(load(path, max_bytes=24_000).x) == 3000


def test_an_archive_that_grows(tmp_path, low):
    path = tmp_path / "d.npz"
    np.savez_compressed(path, x=np.zeros((100, 50)), y=np.arange(100) % 2)
    with pytest.raises(DataError, match=r"d\.npz would take 41\d\d\d bytes.*if you trust"):
        load(path)
    assert load(path, max_bytes=50_000).x.shape == (100, 50)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_compressions_that_grow_without_a_limit(method, tmp_path):
    with zipfile.ZipFile(tmp_path / "d.npz", "w", method) as archive:
        for name in "xy":
            file = io.BytesIO()
            np.save(file, np.zeros((4, 2)) if name == "x" else np.arange(4) % 2)
            archive.writestr(f"{name}.npy", file.getvalue())
    with pytest.raises(DataError, match=r"'x\.npy' must be stored or deflated.* got the ZIP"):
        load(tmp_path / "d.npz")


@pytest.mark.parametrize(
    ("dtype", "shape"),
    [("<f8", "(1000000000000,)"), ("<f8", "(1000000, 1000000)"), ("<U100000000", "(3,)")],
)
def test_an_array_whose_header_asks_for_more_than_the_file_has(dtype, shape, tmp_path):
    text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    raw = b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode() + bytes(100)
    (tmp_path / "x.npy").write_bytes(raw)
    with pytest.raises(DataError, match=r"it holds 100 bytes, and its header asks for \d{9,}"):
        load(tmp_path / "x.npy", target=None)
    with zipfile.ZipFile(tmp_path / "d.npz", "w") as archive:
        archive.writestr("x.npy", raw)
    with pytest.raises(DataError, match=r"x holds 100 bytes, and its header asks for \d{9,}"):
        load(tmp_path / "d.npz", target=None)


@pytest.mark.parametrize(("dtype", "shape"), [("<f8", "(1000000000000, 0)"), ("<U0", "(9999999,)")])
def test_rows_without_bytes(dtype, shape, tmp_path):
    text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    raw = b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()
    (tmp_path / "x.npy").write_bytes(raw)
    with pytest.raises(DataError, match="it must hold values"):
        load(tmp_path / "x.npy", target=None)


def test_pictures_that_grow(tmp_path, capsys):
    pytest.importorskip("PIL")
    for label in "ab":
        (tmp_path / "images" / label).mkdir(parents=True)
        (tmp_path / "images" / label / "0.png").write_bytes(png(40_000, 40_000))
    message = failed(capsys, "train", tmp_path / "images")
    assert "0.png would take 9.6 GB of memory, and may take 268.4 MB; if you trust" in message
    # Pillow's own limit, of 89 million pixels, is in nobody's way
    (tmp_path / "a.png").write_bytes(png(10_000, 9_000, (b"\0" + bytes(10_000)) * 9_000))
    assert load(tmp_path / "a.png", target=None, max_bytes=3 * 10**8).x.shape == (1, 90_000_000)


def test_idx_files_that_grow(tmp_path, low):
    path = tmp_path / "a.gz"
    raw = bytes([0, 0, 8, 1]) + (30_000).to_bytes(4, "big") + bytes(30_000)
    path.write_bytes(gzip.compress(raw))
    with pytest.raises(DataError, match=r"a\.gz would take 30008 bytes of memory"):
        read_idx(path)
    assert len(read_idx(path, max_bytes=40_000)) == 30_000


@pytest.mark.skipif(not os.path.exists("/dev/zero"), reason="a device of Unix")
@pytest.mark.parametrize(
    "argv",
    [
        ["show", "/dev/zero"],
        ["train", "/dev/zero"],
        ["study", "list", "/dev/zero"],
        ["plot", "history", "/dev/zero", "--out", "p.png"],
        ["evaluate", "/dev/zero", "/dev/zero"],
        ["show", "/dev/urandom"],
        ["study", "list", "/dev/urandom"],
    ],
)
def test_devices_without_an_end(argv, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "/dev/" in failed(capsys, *argv)


def endless(path, piece):
    """Write to a pipe until its reader goes away."""
    with open(path, "wb", buffering=0) as file:
        try:
            while True:
                file.write(piece * 1000)
        except BrokenPipeError:
            return


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes of Unix")
def test_a_log_from_a_pipe_without_an_end(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "TEXT", 10**6)
    os.mkfifo(tmp_path / "log.csv")
    writer = threading.Thread(target=endless, args=(tmp_path / "log.csv", b"1,2,3\n"))
    writer.start()
    with pytest.raises(DataError, match=r"log\.csv would take more than 1 MB"):
        xpnn.callbacks.read_log(tmp_path / "log.csv")
    writer.join()


def test_a_model_that_is_longer_than_it_can_be(tmp_path):
    """The header says how long it is; nothing beyond that is read."""
    model = xpnn.Sequential(xpnn.Dense(2))
    xpnn.fit(model, (np.eye(4), np.arange(4) % 2), epochs=0, seed=1)
    xpnn.save(model, tmp_path / "m")
    os.truncate(tmp_path / "m", 10**12)
    with pytest.raises(DataError, match="m is damaged: its bytes don't have the SHA-256"):
        xpnn.load(tmp_path / "m")


def test_lists_that_make_more_runs_than_memory_holds(tmp_path, capsys):
    numbers = list(range(1, 1001))
    (tmp_path / "s.toml").write_text(
        f"epochs = {numbers}\nbatch_size = {numbers}\nseed = {numbers}"
    )
    assert "lists must make 100000 runs at most, got 1e+09" in failed(
        capsys, "study", "list", tmp_path / "s.toml"
    )


def test_the_limit_that_is_asked_for(tmp_path, capsys):
    (tmp_path / "d.csv").write_text("p,q\n" + "1.5,a\n2.5,b\n" * 20)
    assert "d.csv would take 244 bytes of memory, and may take 200 bytes" in failed(
        capsys, "train", tmp_path / "d.csv", "--max-bytes", 200
    )
    quick = ("--epochs", 1, "--quiet", "--max-bytes", 244)
    assert run("train", tmp_path / "d.csv", *quick) == 0
    for wrong in (0, -1):
        assert "max_bytes must be a whole number >= 1" in failed(
            capsys, "train", tmp_path / "d.csv", "--max-bytes", wrong
        )
    with pytest.raises(ArgumentError, match=r"max_bytes must be a whole number >= 1, got 1\.5"):
        load(tmp_path / "d.csv", max_bytes=1.5)


# what each public function that reads files is called with, and the file that its message names
READERS = {
    "load": (xpnn.load, ["m.model"]),
    "describe": (xpnn.saving.describe, ["m.model"]),
    "fit": (lambda path, **more: train(resume=path, callbacks=[], **more), ["run.ckpt"]),
    "read_log": (xpnn.read_log, ["run.csv"]),
    "datasets.load": (load, ["rows.csv"]),
    "datasets.load of NPY": (lambda path, **more: load(path, target=None, **more), ["x.npy"]),
    "load_training": (xpnn.datasets.load_training, ["rows.csv"]),
    "read_idx": (read_idx, ["idx/train-images-idx3-ubyte"]),
    "read_idx_folder": (xpnn.datasets.read_idx_folder, ["idx"]),
    "mnist": (xpnn.datasets.mnist, ["idx"]),
    "load_study": (xpnn.study.load_study, ["study.toml"]),
    "run": (lambda path, **more: xpnn.study.run(path, out="new", **more), ["study.toml"]),
    "read_result": (xpnn.study.read_result, ["out/*-*.json"]),
    "read_study": (xpnn.study.read_study, ["out"]),
    "write_report": (xpnn.study.write_report, ["out"]),
}


def train(**options):
    x = np.random.RandomState(0).randn(60, 2)
    model = xpnn.Sequential(xpnn.Dense(2))
    options = {"epochs": 1, "seed": 1, "verbose": False, **options}
    xpnn.fit(model, (x, (x[:, 0] > 0).astype(int)), **options)
    return model


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A folder with a file of each kind."""
    folder = tmp_path_factory.mktemp("files")
    log, checkpoint = xpnn.CSVLogger(folder / "run.csv"), xpnn.Checkpoint(folder / "run.ckpt")
    xpnn.save(train(callbacks=[log, checkpoint]), folder / "m.model")
    (folder / "rows.csv").write_text("a,b\n" + "1.5,p\n2.5,q\n" * 20)
    np.save(folder / "x.npy", np.eye(20))
    write_folder(folder / "idx")
    (folder / "study.toml").write_text(f"data = '{folder}/rows.csv'\nepochs = 1\n")
    xpnn.study.run(folder / "study.toml", out=folder / "out", jobs=1, progress=False)
    return folder


@pytest.mark.parametrize("name", READERS)
def test_every_function_that_reads_a_file_takes_a_limit(name, files, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    call, (path,) = READERS[name]
    path = next(iter(files.glob(path)))
    with pytest.raises(DataError, match=r" would take .*, and may take 40 bytes; if you trust"):
        call(path, max_bytes=40)
    assert limits.asked() is None
    call(path, max_bytes=10**6)


def test_a_folder_of_results_says_which_are_too_large(files):
    (large,) = xpnn.study.read_folder(files / "out", max_bytes=40)[1]
    assert " would take more than 40 bytes of memory, and may take 40 bytes; if you" in large
    assert len(xpnn.study.read_folder(files / "out", max_bytes=10**6)[0]) == 1


def test_no_public_function_reads_a_file_without_a_limit():
    writes = {"save", "export_onnx", "plot_history", "plot_histories", "plot_activations"}
    # a Python file is run, whatever its size
    writes |= {"plot_confusion", "plot_errors", "load_parts"}
    found = {}
    for module in (xpnn, xpnn.saving, xpnn.callbacks, xpnn.datasets, xpnn.study):
        for name in getattr(module, "__all__", ("load", "save", "describe")):
            function = getattr(module, name)
            if not inspect.isfunction(function) or name in writes:
                continue
            parameters = inspect.signature(function).parameters
            if {"path", "folder", "study", "resume"} & set(parameters):
                found[name] = parameters.get("max_bytes")
    # `compare` and `cluster` are given what was read, and an address
    del found["compare"]
    assert set(found) == {name.partition(".")[2] or name for name in READERS if " " not in name} | {
        "read_folder"
    }
    for parameter in found.values():
        assert (parameter.kind, parameter.default) == (parameter.KEYWORD_ONLY, None)


def test_a_study_holds_its_data_to_the_limit(files, tmp_path, monkeypatch):
    """Its own file is smaller than its data."""
    monkeypatch.chdir(tmp_path)
    rows = (files / "rows.csv").read_text()
    (tmp_path / "rows.csv").write_text(rows + rows.partition("\n")[2] * 50)
    (tmp_path / "s.toml").write_text("data = 'rows.csv'\nepochs = 1\n")
    with pytest.raises(DataError, match=r"rows\.csv would take \d+ bytes.* 8000 bytes; if"):
        xpnn.study.run("s.toml", max_bytes=8_000, progress=False)
    assert xpnn.study.run("s.toml", max_bytes=13_000, jobs=1, progress=False).finished == 1


def test_a_limit_for_data_is_none_for_the_checkpoints_of_a_run(tmp_path, monkeypatch):
    """The file that is replaced is read, and was taken for a damaged one if it was larger."""
    (tmp_path / "d.csv").write_text("p,q\n" + "1.5,a\n2.5,b\n" * 20)
    options = ("--epochs", 2, "--quiet", "--max-bytes", 244, "--checkpoint", tmp_path / "k")
    assert run("train", tmp_path / "d.csv", *options) == 0
    assert (tmp_path / "k").stat().st_size > 244
    assert (tmp_path / "k.previous").is_file()
    assert not (tmp_path / "k.damaged").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="resource limits of Linux")
def test_the_memory_that_a_process_may_have_counts():
    code = (
        "import resource; from xpnn._core import limits; "
        "resource.setrlimit(resource.RLIMIT_AS, (2**33, 2**33)); print(limits.memory() <= 2**33)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"
