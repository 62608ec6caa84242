"""A study on a Dask cluster: a scheduler and two worker processes on the loopback."""

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

import xpnn.study
from tests.helpers import SIX, command, hashes_of_study, run, write_folder
from xpnn.study import read_folder

distributed = pytest.importorskip("distributed")


def start(tmp_path, *command):
    environment = {**os.environ, "DASK_TEMPORARY_DIRECTORY": str(tmp_path)}
    return subprocess.Popen(
        [sys.executable, "-m", "distributed.cli." + command[0], *command[1:]],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


class Cluster(tuple):
    """A scheduler's address and the processes of its workers; and its own process."""

    def __new__(cls, address, workers, scheduler):
        self = super().__new__(cls, (address, workers))
        self.scheduler = scheduler
        return self


@pytest.fixture
def dask(tmp_path):
    """The scheduler's address, and the two workers' processes, without a nanny to revive them.

    When the first worker comes, older schedulers import pandas, and answer nobody meanwhile: on a
    busy machine for longer than a study waits for an answer. So both workers are there first.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    scheduler = start(tmp_path, "dask_scheduler", "--host", address, "--no-dashboard")
    options = (address, "--nthreads", "1", "--no-nanny", "--no-dashboard", "--host", "127.0.0.1")
    workers = [start(tmp_path, "dask_worker", *options) for _ in range(2)]
    try:
        with distributed.Client(address, timeout=120, set_as_default=False) as client:
            client.wait_for_workers(2, timeout=120)
        yield Cluster(address, workers, scheduler)
    finally:
        for process in (*workers, scheduler):
            process.kill()
            process.wait()


@pytest.fixture
def six(tmp_path):
    path = tmp_path / "six.toml"
    path.write_text(SIX.format(data=write_folder(tmp_path / "data")))
    return path


def test_the_same_digits_as_here(dask, six, tmp_path, capsys):
    address, _ = dask
    here, there = tmp_path / "here", tmp_path / "there"
    assert run("study", "run", six, "--out", there, "--cluster", address) == 0
    assert capsys.readouterr().out.startswith("6 of 6 runs done\n")
    xpnn.study.run(str(six), out=here, jobs=2)
    assert hashes_of_study(there) == hashes_of_study(here)
    logs = [
        {
            name: {k: v for k, v in result.log.items() if k != "seconds"}
            for name, result in read_folder(folder)[0].items()
        }
        for folder in (here, there)
    ]
    assert logs[0] == logs[1]


def test_a_killed_worker_loses_nothing(dask, six, tmp_path):
    address, workers = dask
    six.write_text(six.read_text().replace("epochs = 3", "epochs = 200"))
    here, there = tmp_path / "here", tmp_path / "there"

    def kill():
        while not (there.is_dir() and read_folder(there)[0]):
            time.sleep(0.01)
        os.kill(workers[0].pid, signal.SIGKILL)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    assert run("study", "run", six, "--out", there, "--cluster", address, "--quiet") == 0
    killer.join(60)
    assert workers[0].wait(60) == -signal.SIGKILL
    xpnn.study.run(str(six), out=here, jobs=2)
    assert hashes_of_study(there) == hashes_of_study(here)
    assert len(hashes_of_study(there)) == 6


def test_no_scheduler_costs_one_line(six, tmp_path, capsys):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
        assert run("study", "run", six, "--out", tmp_path / "out", "--cluster", address) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    assert f"cluster must be the address of a Dask scheduler, got '{address}'" in error


def test_jobs_are_the_workers_own_affair(six, capsys):
    assert run("study", "run", six, "--cluster", "tcp://127.0.0.1:1", "--jobs", "2") == 2
    assert "jobs must not be given with a cluster" in capsys.readouterr().err


@contextlib.contextmanager
def service(answer):
    """Have a service of another kind at a port, in a thread; without an answer, it keeps silent."""
    with socket.create_server(("127.0.0.1", 0)) as server, contextlib.ExitStack() as silent:

        def serve():
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    silent.enter_context(connection)
                    if answer:
                        connection.sendall(answer)
                        connection.close()

        thread = threading.Thread(target=serve)
        thread.start()
        yield server
        server.shutdown(socket.SHUT_RDWR)  # else the thread would wait for ever
        thread.join()


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n"])
def test_another_service_at_the_port(answer, six, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(xpnn.study.dask, "CONNECT", 0.5)
    with service(answer) as server:
        address = f"tcp://127.0.0.1:{server.getsockname()[1]}"
        assert run("study", "run", six, "--out", tmp_path / "out", "--cluster", address) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert f"cluster must be the address of a Dask scheduler, got '{address}'" in line


def test_a_process_of_its_own_prints_one_line(six, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    done = command("study", "run", six, "--out", tmp_path / "out", "--cluster", address)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert f"cluster must be the address of a Dask scheduler, got '{address}'" in line


def test_another_service_prints_one_line_in_a_process_of_its_own(six, tmp_path):
    """Dask's client of such a service waits when the interpreter ends, and prints a traceback."""
    with service(random.Random(5).randbytes(1 << 16)) as server:
        address = f"tcp://127.0.0.1:{server.getsockname()[1]}"
        ended = command("study", "run", six, "--out", tmp_path / "out", "--cluster", address)
    assert ended.returncode == 2
    assert ended.stderr.startswith("xpnn: error: cluster must be the address")
    assert ended.stderr.count("\n") == 1


def test_what_is_no_address_prints_one_line_in_a_process_of_its_own(six, tmp_path):
    """Dask's client of such an address prints a traceback when the interpreter ends."""
    out = tmp_path / "out"
    for address in ("nonsense", "http://127.0.0.1:9"):
        ended = command("study", "run", six, "--out", out, "--cluster", address)
        assert ended.returncode == 2
        assert ended.stderr.startswith("xpnn: error: cluster must be the address")
        assert ended.stderr.count("\n") == 1


@pytest.mark.parametrize("address", ["", "nonsense", "tcp://", "tcp://127.0.0.1:99999", "a b"])
def test_what_is_no_address(address, six, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(xpnn.study.dask, "CONNECT", 0.5)
    assert run("study", "run", six, "--out", tmp_path / "out", "--cluster", address) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert "cluster must be the address of a Dask scheduler" in line


@pytest.mark.parametrize("gone", ["scheduler", "workers"])
def test_a_cluster_that_goes_away_keeps_what_is_finished(
    gone, dask, six, tmp_path, monkeypatch, capfd
):
    address, workers = dask
    six.write_text(six.read_text().replace("epochs = 3", "epochs = 1000"))
    there = tmp_path / "there"
    monkeypatch.setattr(xpnn.study.dask, "WORKERS", 4.0)

    def kill():
        while not (there.is_dir() and read_folder(there)[0]):
            time.sleep(0.01)
        for process in workers if gone == "workers" else [dask.scheduler]:
            process.kill()

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    assert run("study", "run", six, "--out", there, "--cluster", address, "--quiet") == 2
    killer.join(60)
    *more, line = capfd.readouterr().err.splitlines()
    assert line.startswith(f"xpnn: error: the Dask scheduler at {address} ")
    assert line.endswith("start a scheduler and workers, and then the study again")
    warning = f" has no worker: start one with `dask worker {address}`"
    assert [warning in each for each in more] == [True] * (gone == "workers")
    assert 1 <= len(read_folder(there)[0]) < 6
