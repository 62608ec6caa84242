"""Files: what can't be written is said before anything changes, and nobody sees half of one."""

import os
import stat

import pytest

from xpnn._core.files import check_writable, replacing
from xpnn.errors import ArgumentError


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
def test_check_writable_asks_for_permission(tmp_path, monkeypatch, exists):
    path = tmp_path / "run.csv"
    if exists:
        path.touch()
    asked = []
    monkeypatch.setattr(os, "access", lambda *args: asked.append(args))
    with pytest.raises(ArgumentError, match="permission denied"):
        check_writable("log", path)
    assert asked == [(path if exists else tmp_path, os.W_OK)]


def test_replacing_puts_a_whole_file_in_place(tmp_path):
    path = tmp_path / "run.png"
    path.write_text("old")
    with path.open() as reader:
        with replacing(path) as beside:
            assert (beside.parent, beside.suffix) == (tmp_path, ".png")
            beside.write_text("new")
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
        with replacing(path) as beside:
            beside.write_text("half")
            raise error

    with pytest.raises(error):
        write()
    assert [(file, file.read_text()) for file in tmp_path.iterdir()] == [(path, "old")] * exists


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_a_new_file_gets_what_the_umask_says(tmp_path, umask, mask, mode):
    umask(mask)
    with replacing(tmp_path / "new"):
        pass
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == mode
    assert umask(mask) == mask


def test_the_umask_is_that_of_the_whole_process_and_left_alone(tmp_path, umask, monkeypatch):
    """Another thread that makes a file meanwhile would make it for everybody to write to."""
    umask(0o027)
    monkeypatch.setattr(os, "umask", None)
    for part in (None, "part"):
        with replacing(tmp_path / f"new{part}", part=part):
            pass
        assert stat.S_IMODE((tmp_path / f"new{part}").stat().st_mode) == 0o640


@pytest.mark.parametrize("mode", [0o640, 0o600, 0o666, 0o444])
@pytest.mark.parametrize("part", [None, "part"])
def test_an_old_file_keeps_its_mode(tmp_path, umask, mode, part):
    path = tmp_path / "old"
    path.touch()
    path.chmod(mode)
    # as a kill leaves it
    (tmp_path / "part").touch(0o666)
    with replacing(path, part=part) as beside:
        # nobody else reads what is half written of a private file
        assert stat.S_IMODE(beside.stat().st_mode) == 0o600
        beside.write_text("new")
    assert stat.S_IMODE(path.stat().st_mode) == mode
    assert path.read_text() == "new"


def test_a_device_or_a_pipe_is_written_to_and_not_replaced(tmp_path):
    """Else root's --save /dev/null would leave a model where the device was."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        with replacing(path) as target:
            target.write_bytes(b"model")
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
    with replacing(link) as beside:
        beside.write_text("new")
    assert link.is_symlink()
    assert file.read_text() == "new"
    assert list((tmp_path / "runs").iterdir()) == [file]


def test_the_old_file_stays_under_another_name(tmp_path):
    path, kept = tmp_path / "run.ckpt", tmp_path / "kept"
    for text in ("first", "second", "third"):
        with replacing(path, keep=lambda old: old.with_name("kept")) as beside:
            beside.write_text(text)
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
    with replacing(path, keep=lambda old: kept) as beside:
        beside.write_text("new")
    assert (path.read_text(), kept.read_text()) == ("new", "old")
    assert set(tmp_path.iterdir()) == {path, kept}


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="no names of open files")
def test_what_is_put_in_place_is_on_the_disk(tmp_path, monkeypatch):
    """Synchronised while it still has its other name, and the folder after that."""
    path, calls = tmp_path / "run.ckpt", []
    sync, replace = os.fsync, type(path).replace

    def noted_sync(handle):
        calls.append(os.path.basename(os.readlink(f"/proc/self/fd/{handle}")))
        sync(handle)

    def noted_replace(self, target):
        calls.append("rename")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", noted_sync)
    monkeypatch.setattr(type(path), "replace", noted_replace)
    with replacing(path, part="part") as beside:
        beside.write_text("new")
    assert calls == ["part", "rename", tmp_path.name]
