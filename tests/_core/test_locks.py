"""Only one process writes a file; one that was killed blocks nobody."""

import contextvars
import os
import signal
import subprocess
import sys

import numpy as np
import pytest

import xpnn
from xpnn._core import locks
from xpnn._core.files import locked, replacing
from xpnn.errors import ArgumentError, WriteError

HOLDER = """
import sys
from xpnn._core.files import locked
with locked("log", sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    """A process that holds the lock of run.csv until it is killed."""
    command = [sys.executable, "-c", HOLDER, str(tmp_path / "run.csv")]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def test_the_second_is_refused_with_the_process(tmp_path, holder):
    (tmp_path / "link").symlink_to("run.csv")
    for name in ("run.csv", "link"):
        path = str(tmp_path / name)
        with pytest.raises(ArgumentError) as error, locked("log", path):
            raise AssertionError
        assert str(error.value) == (
            f"log {path!r} is being written by process {holder.pid}: wait until it ends, or name "
            "another one"
        )
    with locked("log", tmp_path / "other.csv"):
        pass


def test_a_lock_goes_with_its_process(tmp_path, holder):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert list(tmp_path.iterdir())  # the file is still there, but nobody holds it
    with locked("log", tmp_path / "run.csv"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_lock_holds_within_a_process_too(tmp_path):
    with locked("out", tmp_path):
        with (
            pytest.raises(ArgumentError, match=f"by process {os.getpid()}:"),
            locked("o", tmp_path),
        ):
            raise AssertionError
        assert len(list(tmp_path.iterdir())) == 1
    assert list(tmp_path.iterdir()) == []


def replace(path, model, history):
    with replacing("file", path) as file:
        file.write(b"new")


@pytest.mark.parametrize(
    ("name", "said", "write"),
    [
        ("m", "model", lambda path, model, history: xpnn.save(model, path)),
        ("m.onnx", "model", lambda path, model, history: xpnn.export_onnx(model, path)),
        ("p.png", "plot", lambda path, model, history: xpnn.plot_history(history, path)),
        ("tables.csv", "file", replace),
    ],
)
def test_python_and_the_command_have_the_same_rule(name, said, write, tmp_path):
    """A command locks what it writes at its end; `xpnn.save` replaced it all the same."""
    pytest.importorskip({"m.onnx": "onnx", "p.png": "matplotlib"}.get(name, "xpnn"))
    model = xpnn.Sequential(xpnn.Dense(2))
    history = xpnn.fit(model, (np.eye(4), np.arange(4) % 2), epochs=1, seed=1, verbose=False)
    path = tmp_path / name
    path.write_text("old")
    with locked("save", path):
        with pytest.raises(ArgumentError) as error:
            # as in another thread
            contextvars.Context().run(write, path, model, history)
        assert str(error.value) == (
            f"{said} {str(path)!r} is being written by process {os.getpid()}: wait until it ends, "
            "or name another one"
        )
        assert path.read_text() == "old"
        # who has the lock writes
        write(path, model, history)
    assert path.read_bytes() != b"old"
    path.write_text("old")
    write(path, model, history)
    assert path.read_bytes() != b"old"
    assert [own.name for own in tmp_path.iterdir()] == [name]


def test_locks_end_in_any_order(tmp_path):
    with locked("log", tmp_path / "a"):
        first, second = locked("log", tmp_path / "b"), locked("log", tmp_path / "c")
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)
        for name in "abc":
            replace(tmp_path / name, None, None)
        second.__exit__(None, None, None)
    assert sorted(own.name for own in tmp_path.iterdir()) == ["a", "b", "c"]


def test_a_lock_follows_no_link_and_writes_into_no_file_of_others(tmp_path):
    with locked("log", tmp_path / "run.csv"):
        (name,) = tmp_path.iterdir()
    mine = tmp_path / "mine"
    mine.write_text("mine")
    name.symlink_to(mine)
    with pytest.raises(WriteError, match="can't write log"), locked("log", tmp_path / "run.csv"):
        raise AssertionError
    name.unlink()
    os.link(mine, name)
    with locked("log", tmp_path / "run.csv"):
        assert mine.read_text() == "mine"


def test_what_another_user_s_killed_process_left_blocks_nobody(tmp_path, monkeypatch):
    usual, lock = os.open, tmp_path / "lock"
    lock.write_text("1\n")

    def opened(path, flags, *mode):
        if flags & os.O_RDWR:
            raise PermissionError(13, "Permission denied")
        return usual(path, flags, *mode)

    monkeypatch.setattr(os, "open", opened)
    with locks.Lock(lock):
        monkeypatch.undo()
        with pytest.raises(BlockingIOError), locks.Lock(lock):
            raise AssertionError


def test_a_device_needs_no_lock():
    with locked("log", "/dev/null"), locked("log", "/dev/null"):
        pass


def test_a_file_system_without_locks_says_so(tmp_path, monkeypatch, caplog):
    fcntl = pytest.importorskip("fcntl")

    def refused(*_):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", refused)
    with locks.Lock(tmp_path / "lock"):
        pass
    assert caplog.messages == [
        "this file system has no locks: start no second run on the same files"
    ]
