"""Folders of PNG and JPEG images, and single ones."""

import os
import re
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest

import xpnn
from tests.helpers import failed, read_rows, run
from xpnn.datasets import load
from xpnn.errors import ArgumentError, DataError

POSIX = pytest.mark.skipif(os.name != "posix", reason="pipes and such links are POSIX's")


def named(*parts):
    """Return a path as in messages, to be matched."""
    return re.escape(str(Path(*parts)))


def pictures(folder, mode="L", count=8):
    """Write images of 3 × 2: bright ones and dark ones; return them."""
    image = pytest.importorskip("PIL.Image")
    rng = np.random.RandomState(1)
    arrays = []
    for kind, low in (("bright", 150), ("dark", 0)):
        (folder / kind).mkdir(parents=True)
        for i in range(count):
            shape = (2, 3) if mode == "L" else (2, 3, 3)
            arrays.append(rng.randint(low, low + 100, shape).astype(np.uint8))
            image.fromarray(arrays[-1]).save(folder / kind / f"{i}.PNG")
    (folder / "dark" / "notes.txt").write_text("no image")
    return np.stack(arrays).reshape(2 * count, -1)


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_folders_of_images(mode, here):
    expected = pictures(here / "images", mode)
    data = load("images")
    np.testing.assert_array_equal(data.x, expected, strict=True)
    assert data.y.tolist() == ["bright"] * 8 + ["dark"] * 8
    assert data.where(9).endswith("1.PNG")


def test_images_from_training_to_predictions(here, capsys):
    pictures(here / "images")
    assert run("train", "images", "--validation", 0.25, "--hidden", "", "--batch-size", 4,
               "--save", "m", "--quiet") == 0  # fmt: skip
    assert run("predict", "m", "images", "--out", "p.csv") == 0
    rows = read_rows(here / "p.csv")
    assert rows[0] == ["file", "prediction"]
    assert rows[1:] == [
        [f"images/{kind}/{i}.PNG", kind] for kind in ("bright", "dark") for i in range(8)
    ]
    assert run("predict", "m", "images/dark") == 0
    assert capsys.readouterr().out.splitlines()[1] == "images/dark/0.PNG,dark"


def test_images_that_can_not_be_used(here):
    image = pytest.importorskip("PIL.Image")
    pictures(here / "images")
    odd = here / "images" / "dark" / "8.png"
    for make, message in (
        (lambda: image.new("L", (4, 4)).save(odd), "8.png must be 3 × 2 grey as .*, got 4 × 4 gr"),
        (lambda: image.new("RGB", (3, 2)).save(odd), "8.png must be 3 × 2 grey .*got 3 × 2 colour"),
        (lambda: image.new("I;16", (3, 2)).save(odd), "8.png must have 8 bits a channel"),
        (lambda: odd.write_bytes((odd.parent / "0.PNG").read_bytes()[:50]), "can't read .*8.png"),
        (lambda: odd.write_bytes(b"GIF89a"), "can't read .*8.png"),
    ):
        make()
        with pytest.raises(DataError, match=message):
            load("images")


def png(path, pixels, kind, depth=8):
    """Write a PNG image of one of its color types, as Pillow can't write all of them."""
    raw = pixels.astype(">u2" if depth == 16 else np.uint8)
    rows = b"".join(b"\0" + row.tobytes() for row in raw)
    header = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], depth, kind, 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n"
    for name, chunk in ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")):
        content += struct.pack(">I", len(chunk)) + name + chunk
        content += struct.pack(">I", zlib.crc32(name + chunk))
    path.write_bytes(content)


# the color types of PNG: their number and the channels
KINDS = {"grey": (0, 1), "colour": (2, 3), "grey with opacity": (4, 2), "with opacity": (6, 4)}


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_png_is_read_as_it_is_or_refused(kind, here):
    pytest.importorskip("PIL")
    number, channels = KINDS[kind]
    pixels = np.random.default_rng(3).integers(0, 256, (2, 3, channels))
    own = channels - (channels in (2, 4))
    pixels[:, :, own:] = 255
    path = here / "0.png"
    png(path, pixels, number)
    data = load("0.png", target=None)
    np.testing.assert_array_equal(data.x, pixels[:, :, :own].reshape(1, -1))
    assert data.image_shape == (2, 3, own)

    png(path, pixels * 257, number, depth=16)
    with pytest.raises(DataError, match=r"0.png must have 8 bits a channel, got more"):
        load("0.png", target=None)
    if own < channels:
        # black ink on glass
        pixels[:, :, :own], pixels[1, 1, own:] = 0, 254
        png(path, pixels, number)
        with pytest.raises(DataError, match=r"0.png is transparent in places"):
            load("0.png", target=None)


def test_a_transparent_colour_of_a_palette_is_refused(here):
    image = pytest.importorskip("PIL.Image")
    drawing = image.fromarray(np.array([[0, 1, 1], [0, 0, 1]], np.uint8), "P")
    drawing.putpalette([0, 0, 0, 9, 9, 9])
    drawing.save(here / "0.png")
    assert load("0.png", target=None).x.tolist() == [[0] * 3 + [9] * 6 + [0] * 6 + [9] * 3]
    drawing.save(here / "0.png", transparency=0)
    with pytest.raises(DataError, match=r"0.png is transparent in places"):
        load("0.png", target=None)


def test_images_without_pillow(here, monkeypatch):
    pictures(here / "images")
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(DataError, match=r"needs Pillow: pip install 'xpnn\[images\]'"):
        load("images")


def test_a_png_of_a_bomb_is_one_line(here):
    pytest.importorskip("PIL")
    pictures(here / "images", count=1)
    # a header that promises 2**31 - 1 pixels a side, and nothing else
    chunk = b"IHDR" + struct.pack(">IIBBBBB", 2**31 - 1, 2**31 - 1, 8, 0, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk
    png += struct.pack(">I", zlib.crc32(chunk))
    (here / "images" / "dark" / "1.png").write_bytes(png)
    with pytest.raises(DataError, match=r"can't read .*1\.png"):
        load("images")


def of_size(folder, width, height, mode="L"):
    image = pytest.importorskip("PIL.Image")
    rng = np.random.RandomState(2)
    for kind in ("a", "b"):
        (folder / kind).mkdir(parents=True)
        for i in range(4):
            shape = (height, width) if mode == "L" else (height, width, 3)
            pixels = rng.randint(0, 256, shape).astype(np.uint8)
            image.fromarray(pixels).save(folder / kind / f"{i}.png")
    return folder.name


def test_a_models_images_keep_their_shape(here, capsys):
    for name, width, height, mode in (
        ("tall", 4, 9, "L"), ("wide", 9, 4, "L"), ("square", 6, 6, "L"), ("rgb", 4, 3, "RGB"),
    ):  # fmt: skip
        of_size(here / name, width, height, mode)
    small = ["--epochs", 1, "--batch-size", 4, "--hidden", ""]
    assert run("train", "tall", *small, "--save", "m", "--checkpoint", "c", "--quiet",
               "--seed", 1) == 0  # fmt: skip
    assert xpnn.load("m").task.image_shape == (9, 4, 1)
    assert run("show", "m") == 0
    assert re.search(r"^images +4 × 9 grey$", capsys.readouterr().out, re.M)
    for other, size in (("wide", "9 × 4 grey"), ("square", "6 × 6 grey"), ("rgb", "4 × 3 colour")):
        wanted = f"{other} must hold images of 4 × 9 grey as the training data do, got {size}"
        for argv in (["predict", "m", other], ["evaluate", "m", other],
                     ["plot", "errors", "m", other, "--out", "e.png"],
                     ["plot", "confusion", "m", other, "--out", "e.png"],
                     ["train", "tall", *small, "--validation", other]):  # fmt: skip
            assert failed(capsys, *argv) == wanted
        with pytest.raises(DataError, match=wanted):
            xpnn.fit(xpnn.load("m"), load(other), epochs=1)
    # the same bytes in another shape
    data = load("tall")
    data.image_shape = (4, 9, 1)
    codes = data.y.tolist()
    with pytest.raises(ArgumentError, match=r"image_shape must be .* as in c"):
        xpnn.fit(xpnn.Sequential(xpnn.Dense(2)), data, labels=sorted(set(codes)), epochs=1,
                 loss=xpnn.CrossEntropy(), batch_size=4, resume="c")  # fmt: skip
    assert run("plot", "errors", "m", "tall", "--out", "e.png") == 0


def test_jpeg_images_are_those_that_pillow_decodes(here):
    image = pytest.importorskip("PIL.Image")
    pictures(here / "images", count=4)
    paths = [here / "images" / "dark" / "4.jpg", here / "images" / "dark" / "5.JPEG"]
    for path in paths:
        image.fromarray(np.arange(6, dtype=np.uint8).reshape(2, 3) * 40).save(path, "JPEG")
    data = load("images")
    decoded = np.asarray(image.open(paths[0])).reshape(-1)
    # what JPEG loses of an image of 3 × 2
    np.testing.assert_allclose(decoded.astype(int), np.arange(6) * 40, atol=30)
    for row, path in enumerate(paths, 8):
        np.testing.assert_array_equal(data.x[row], decoded, strict=True)
        assert data.where(row) == str(path.relative_to(here))
    image.new("CMYK", (3, 2)).save(paths[0])
    with pytest.raises(DataError, match=r"4\.jpg must be 3 × 2 grey .*, got 3 × 2 colour"):
        load("images")
    paths[0].write_bytes(paths[1].read_bytes()[:200])
    with pytest.raises(DataError, match=r"can't read .*4\.jpg"):
        load("images")


def test_a_single_image_can_be_predicted_from(here, capsys, monkeypatch):
    pictures(here / "images")
    assert run("train", "images", "--hidden", "", "--batch-size", 4, "--save", "m", "--quiet") == 0
    assert run("predict", "m", "images/dark/3.PNG") == 0
    assert capsys.readouterr().out == f"file,prediction\n{Path('images/dark/3.PNG')},dark\n"
    of_size(here / "wide", 9, 4)
    wide = Path("wide/a/0.png")
    wanted = f"{wide} must hold images of 3 × 2 grey as the training data do, got 9 × 4 grey"
    assert failed(capsys, "predict", "m", "wide/a/0.png") == wanted
    for command in (["train", "wide/a/0.png"], ["evaluate", "m", "wide/a/0.png"]):
        assert failed(capsys, *command).startswith(f"{wide} is an image without a class, to ")
    monkeypatch.setitem(sys.modules, "PIL", None)
    wanted = f"{wide} holds images, and reading them needs Pillow: pip install 'xpnn[images]'"
    assert failed(capsys, "predict", "m", "wide/a/0.png") == wanted


def test_images_of_other_formats_are_named(here):
    of_size(here / "images", 3, 2)
    gif = here / "images" / "a" / "x.GIF"
    gif.write_bytes(b"GIF89a")
    with pytest.raises(DataError, match=r"x\.GIF is not a PNG or JPEG image"):
        load("images")
    gif.unlink()
    (here / "images" / "c").mkdir()
    (here / "images" / ".hidden").mkdir()
    with pytest.raises(
        DataError, match=rf"{named('images/c')} must .* as .*{named('images/a')} does"
    ):
        load("images")
    (here / "gifs" / "a").mkdir(parents=True)
    (here / "gifs" / "a" / "1.gif").write_bytes(b"GIF89a")
    wanted = rf"PNG or JPEG images; {named('gifs/a/1.gif')} is not a PNG or JPEG image"
    with pytest.raises(DataError, match=wanted):
        load("gifs")


@pytest.mark.parametrize(
    "odd",
    [
        "0.png",
        "a/more/0.png",
        pytest.param("a/gone.png", marks=POSIX),
        pytest.param("a/pipe.JPG", marks=POSIX),
    ],
)
def test_no_image_is_left_out_in_silence(odd, here):
    of_size(here / "images", 3, 2)
    path = here / "images" / odd
    path.parent.mkdir(exist_ok=True)
    if "pipe" in odd:
        os.mkfifo(path)
    elif "gone" in odd:
        path.symlink_to("nowhere.png")
    else:
        path.write_bytes((here / "images" / "a" / "0.png").read_bytes())
    with pytest.raises(DataError, match=rf"^{named('images', odd)} would be left out"):
        load("images")


def test_an_animation_is_refused(here):
    image = pytest.importorskip("PIL.Image")
    of_size(here / "images", 3, 2)
    moving = here / "images" / "a" / "moving.png"
    more = [image.new("L", (3, 2), grey) for grey in (80, 160)]
    image.new("L", (3, 2)).save(moving, save_all=True, append_images=more)
    with pytest.raises(DataError, match=r"moving\.png holds 3 images; save the one that is meant"):
        load("images")


def test_an_image_is_turned_as_its_exif_data_say(tmp_path):
    pixels = np.arange(0, 240, 10, dtype=np.uint8).reshape(4, 6)
    image = pytest.importorskip("PIL.Image").fromarray(pixels)
    exif = image.getexif()
    exif[0x0112] = 6  # the camera was held so that the picture must be turned clockwise
    image.save(tmp_path / "a.png", exif=exif)
    data = load(tmp_path / "a.png", target=None)
    assert data.image_shape == (6, 4, 1)
    np.testing.assert_array_equal(data.x[0].reshape(6, 4), np.rot90(pixels, -1))
