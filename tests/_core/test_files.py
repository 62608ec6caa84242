"""Files: what can't be written is said before anything changes, and nobody sees half of one."""

import contextlib
import errno
import os
import stat

import pytest

from xpnn._core.files import check_folder, check_writable, replacing, same_file
from xpnn.errors import ArgumentError, WriteError


@pytest.fixture
def umask():
    """Set the umask for the time of a test."""
    old = os.umask(0o022)
    yield os.umask
    os.umask(old)


@pytest.mark.parametrize("path", ["new.csv", "old.csv"])
def test_check_writable_changes_nothing(tmp_path, path):
    (tmp_path / "old.csv").write_text("old")
    assert check_writable("log", str(tmp_path / path)) == tmp_path / path
    assert [file.name for file in tmp_path.iterdir()] == ["old.csv"]
    assert (tmp_path / "old.csv").read_text() == "old"


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        (".", "it is a folder"),
        ("nowhere/run.csv", "there is no folder {}/nowhere"),
        ("file/run.csv", "there is no folder {}/file"),
    ],
)
def test_check_writable_names_argument_value_and_reason(tmp_path, path, reason):
    (tmp_path / "file").touch()
    with pytest.raises(ArgumentError) as error:
        check_writable("log", tmp_path / path)
    assert str(error.value) == (
        f"log must be a file that can be written, got {str(tmp_path / path)!r}: "
        + reason.format(tmp_path)
    )


@pytest.mark.parametrize("exists", [True, False])
def test_check_writable_tries_it(tmp_path, monkeypatch, exists):
    """The file beside it, and the old one if there is one: root may do both, so open says no."""
    path = tmp_path / "run.csv"
    if exists:
        path.write_text("old")
    tried, usual = [], os.open

    def refused(name, *rest):
        tried.append(os.path.basename(name))
        if len(tried) == 1 + exists:
            raise PermissionError(13, "Permission denied")
        return usual(name, *rest)

    monkeypatch.setattr(os, "open", refused)
    with pytest.raises(ArgumentError, match=r"log must be .*run\.csv': permission denied"):
        check_writable("log", path)
    assert tried[: int(exists)] == ["run.csv"] * exists
    assert tried[-1].startswith(".xpnn-")
    assert [file.name for file in tmp_path.iterdir()] == ["run.csv"] * exists


@pytest.mark.skipif(os.name != "posix", reason="names and links are POSIX's")
@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda p: p.symlink_to(p.parent / "no" / "where"), "there is no folder .*/no"),
        (lambda p: p.symlink_to(p), "its links lead in a circle"),
        (lambda p: p.mkdir(), "it is a folder"),
    ],
)
def test_check_writable_follows_links(tmp_path, make, reason):
    make(tmp_path / "run.csv")
    with pytest.raises(ArgumentError, match=rf"got '{tmp_path}/run\.csv': {reason}$"):
        check_writable("log", tmp_path / "run.csv")


@pytest.mark.parametrize("length", [1, 245, 246, 255, 256, 300])
def test_a_name_of_any_length_is_written_or_refused_at_the_start(tmp_path, length):
    path = tmp_path / ("é" * (length // 2) + "n" * (length % 2))
    if length > 255:
        with pytest.raises(ArgumentError, match="File name too long"):
            check_writable("save", path)
        return
    with replacing("log", check_writable("save", path)) as file:
        assert max(len(os.fsencode(name)) for name in os.listdir(tmp_path)) <= 32
        file.write(b"new")
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize("path", ["", None, 3, "a\0b"])
def test_no_path(path):
    with pytest.raises(ArgumentError, match="save must be a path, got"):
        check_writable("save", path)


def test_a_file_system_that_refuses_modes(tmp_path, monkeypatch):
    def refused(self, mode):
        raise PermissionError(1, "Operation not permitted")

    path = tmp_path / "run.csv"
    path.write_text("old")
    monkeypatch.setattr(type(path), "chmod", refused)
    with replacing("log", path) as file:
        file.write(b"new")
    assert path.read_text() == "new"


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOSPC])
def test_a_file_system_that_can_not_synchronise_is_no_full_disk(tmp_path, monkeypatch, code):
    def refused(handle):
        raise OSError(code, os.strerror(code))

    path = tmp_path / "run.csv"
    monkeypatch.setattr(os, "fsync", refused)
    full = code == errno.ENOSPC
    expected = pytest.raises(OSError, match="No space") if full else contextlib.nullcontext()
    with expected, replacing("log", path) as file:
        file.write(b"new")
    assert [own.name for own in tmp_path.iterdir()] == ["run.csv"] * (not full)


def test_no_name_can_be_foreseen(tmp_path, monkeypatch):
    """A link in the place of the new file would have another file written."""
    names = set()
    for _ in range(3):
        with replacing("log", tmp_path / "k.ckpt") as file:
            names |= {n for n in os.listdir(tmp_path) if n != "k.ckpt" and ".lock" not in n}
            file.write(b"new")
    assert len(names) == 3
    victim = tmp_path / "victim"
    victim.write_text("mine")
    monkeypatch.setattr(os, "urandom", bytes)
    with replacing("log", tmp_path / "other") as file:
        (name,) = (n for n in os.listdir(tmp_path) if n[0] == "." and ".lock" not in n)
    (tmp_path / name).symlink_to(victim)
    (tmp_path / "other").unlink()
    exists = pytest.raises(WriteError, match="File exists")
    with exists, replacing("log", tmp_path / "other") as file:
        file.write(b"new")
    assert victim.read_text() == "mine"


def test_what_is_being_written_is_not_left_over(tmp_path):
    path = tmp_path / "k.ckpt"
    with replacing("log", path) as file:
        (beside,) = (own for own in tmp_path.iterdir() if own.suffix != ".lock")
        os.utime(beside, (0, 0))
        check_writable("checkpoint", path)
        assert beside.exists()
        file.write(b"new")
    left = beside
    left.write_text("of a killed process")
    check_writable("other", tmp_path / "other")
    check_writable("checkpoint", path)
    assert left.exists()  # a moment ago it may not have been locked yet
    os.utime(left, (0, 0))
    check_writable("other", tmp_path / "other")
    assert left.exists()
    check_writable("checkpoint", path)
    assert [own.name for own in tmp_path.iterdir()] == ["k.ckpt"]


@pytest.mark.parametrize("folder", ["", "new", "new/er"])
def test_a_folder_that_can_be_written(tmp_path, folder):
    assert check_folder("tensorboard", tmp_path / folder) == tmp_path / folder
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_can_not_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    with pytest.raises(ArgumentError, match=r"tensorboard must be a folder .*/file is a file"):
        check_folder("tensorboard", tmp_path / "file" / "runs")
    monkeypatch.setattr(os, "open", lambda *_: (_ for _ in ()).throw(PermissionError(13, "no")))
    with pytest.raises(ArgumentError, match="permission denied"):
        check_folder("tensorboard", tmp_path)


def test_one_file_has_many_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "a.csv"
    file.write_text("x")
    os.link(file, "hard.csv")
    os.symlink(file, "soft.csv")
    os.symlink(tmp_path, "here")
    os.symlink("new.csv", "dangling.csv")
    for name in ("./a.csv", "hard.csv", "soft.csv", "here/a.csv"):
        assert same_file(file, name)
    assert same_file("dangling.csv", "here/new.csv")
    assert not same_file("a.csv", "b.csv")
    assert not same_file("A.CSV", "a.csv")  # this system tells them apart
    assert not same_file("/dev/null", "/dev/null")


def test_names_that_differ_in_case_only(tmp_path, monkeypatch):
    """Two files that aren't there yet, on a file system that ignores case: as on Windows."""
    usual = os.stat

    def folding(path, **options):
        for own in os.listdir(tmp_path):
            if os.fspath(path).casefold() == str(tmp_path / own).casefold():
                return usual(tmp_path / own, **options)
        return usual(path, **options)

    assert not same_file(tmp_path / "run.csv", tmp_path / "Run.CSV")
    monkeypatch.setattr(os, "stat", folding)
    assert same_file(tmp_path / "run.csv", tmp_path / "Run.CSV")
    assert same_file(tmp_path / "\u00e9", tmp_path / "e\u0301")
    assert not same_file(tmp_path / "run.csv", tmp_path / "rum.csv")


def test_replacing_puts_a_whole_file_in_place(tmp_path):
    path = tmp_path / "run.png"
    path.write_text("old")
    with path.open() as reader:
        with replacing("log", path) as beside:
            beside.write(b"new")
            beside.flush()
            assert path.read_text() == "old"
        assert path.read_text() == "new"
        # who had the file open before goes on with the old one
        assert reader.read() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
@pytest.mark.parametrize("exists", [True, False])
def test_a_failure_leaves_all_as_it_was(tmp_path, error, exists):
    path = tmp_path / "run.png"
    if exists:
        path.write_text("old")

    def write():
        with replacing("log", path) as beside:
            beside.write(b"half")
            raise error

    with pytest.raises(error):
        write()
    assert [(file, file.read_text()) for file in tmp_path.iterdir()] == [(path, "old")] * exists


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_a_new_file_gets_what_the_umask_says(tmp_path, umask, mask, mode):
    umask(mask)
    with replacing("log", tmp_path / "new"):
        pass
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == mode
    assert umask(mask) == mask


def test_the_umask_is_that_of_the_whole_process_and_left_alone(tmp_path, umask, monkeypatch):
    """Another thread that makes a file meanwhile would make it for everybody to write to."""
    umask(0o027)
    monkeypatch.setattr(os, "umask", None)
    with replacing("log", tmp_path / "new"):
        pass
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o640


@pytest.mark.parametrize("mode", [0o640, 0o600, 0o666, 0o444])
def test_an_old_file_keeps_its_mode(tmp_path, umask, mode):
    path = tmp_path / "old"
    path.touch()
    path.chmod(mode)
    with replacing("log", path) as beside:
        # nobody else reads what is half written of a private file
        assert stat.S_IMODE(os.fstat(beside.fileno()).st_mode) == 0o600
        beside.write(b"new")
    assert stat.S_IMODE(path.stat().st_mode) == mode
    assert path.read_text() == "new"


def test_a_device_or_a_pipe_is_written_to_and_not_replaced(tmp_path):
    """Else root's --save /dev/null would leave a model where the device was."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        with replacing("log", path) as target:
            target.write(b"model")
        assert stat.S_ISFIFO(path.stat().st_mode)
        assert os.read(reader, 100) == b"model"
    finally:
        os.close(reader)
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_stays_and_its_file_is_replaced(tmp_path):
    (tmp_path / "runs").mkdir()
    file, link = tmp_path / "runs" / "1", tmp_path / "latest"
    file.write_text("old")
    link.symlink_to(file)
    with replacing("log", link) as beside:
        beside.write(b"new")
    assert link.is_symlink()
    assert file.read_text() == "new"
    assert list((tmp_path / "runs").iterdir()) == [file]


def test_the_old_file_stays_under_another_name(tmp_path):
    path, kept = tmp_path / "run.ckpt", tmp_path / "kept"
    for text in ("first", "second", "third"):
        with replacing("log", path, keep=lambda old: old.with_name("kept")) as beside:
            beside.write(text.encode())
            # at no time is there no file
            assert path.exists() == (text != "first")
    assert (path.read_text(), kept.read_text()) == ("third", "second")
    assert set(tmp_path.iterdir()) == {path, kept}


@pytest.mark.parametrize("links", [True, False])
def test_the_old_file_stays_when_it_is_the_kept_one_already(links, tmp_path, monkeypatch):
    """As after a kill between the two; and where the file system has no links."""
    path, kept = tmp_path / "run.ckpt", tmp_path / "kept"
    path.write_text("old")
    os.link(path, kept)
    if not links:
        monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(OSError(1, "no links")))
    with replacing("log", path, keep=lambda old: kept) as beside:
        beside.write(b"new")
    assert (path.read_text(), kept.read_text()) == ("new", "old")
    assert set(tmp_path.iterdir()) == {path, kept}


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="no names of open files")
def test_what_is_put_in_place_is_on_the_disk(tmp_path, monkeypatch):
    """Synchronised while it still has its other name, and the folder after that."""
    path, calls = tmp_path / "run.ckpt", []
    sync, replace = os.fsync, type(path).replace

    def noted_sync(handle):
        name = os.path.basename(os.readlink(f"/proc/self/fd/{handle}"))
        calls.append("beside" if name.startswith(".xpnn-") else name)
        sync(handle)

    def noted_replace(self, target):
        calls.append("rename")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", noted_sync)
    monkeypatch.setattr(type(path), "replace", noted_replace)
    with replacing("log", path) as beside:
        beside.write(b"new")
    assert calls == ["beside", "rename", tmp_path.name]


def test_a_folder_whose_name_is_too_long_is_refused_with_the_argument(tmp_path):
    with pytest.raises(ArgumentError, match=r"^tensorboard must be .*: File name too long"):
        check_folder("tensorboard", tmp_path / ("a" * 300))
