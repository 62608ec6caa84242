"""Change the files that xpnn reads, and its commands' arguments, and see that it never breaks.

    python scripts/checks/fuzz_files.py [--count 2000] [--seed 0] [--only model,npz]
        [--megabytes 1536] [--seconds 10] [--batch 100] [--keep FOLDER]

Each format has a few small valid files. A case changes one of them: bytes, cells, lines, members,
or the fields of its JSON and the arrays beside it; what is below a hash or a checksum is changed
first, and the hash computed anew, so that it is the checks of the content that are tried. A
command then reads the file, in a process that has limits of memory and of processor time. A case
passes if the command exits with 0 or 1, or with 2 and one line on standard error, and doesn't
raise. The seed determines the cases. Exit status 1 unless all pass; each that doesn't is printed,
and with `--keep` its files are kept.
"""

import argparse
import base64
import contextlib
import copy
import gzip
import hashlib
import io
import json
import multiprocessing
import os
import random
import resource
import shutil
import signal
import struct
import sys
import tempfile
import time
import traceback
import warnings
import zipfile
import zlib
from pathlib import Path

# values that a field or a cell is replaced by: borders of types, other types, other sizes
VALUES = [
    None, True, False, 0, -1, 1, 2, 624, 625, 255, 2**31, 2**32, 2**53, 2**63, -(2**63), 2**64,
    10**30, 10**400, 0.0, -0.0, 0.5, 1e-320, 1e308, -1e308, float("nan"), float("inf"),
    -float("inf"), "", "a", "0", "relu", "None", "\0", "日本語", "x" * 5000, "../../etc/passwd",
    "/dev/zero", [], [[]], {}, [None], [0], ["a"], {"a": 1}, [1] * 3, [0, 1, 2, 3],
    {"name": "Dense", "parameters": {"units": 10**12}}, {"name": "flooding", "parameters": {}},
]  # fmt: skip

# texts for CSV, TOML and arguments
TEXTS = [
    "", " ", ",", ";", "\t", '"', '""', "\0", "nan", "NaN", "inf", "-inf", "1e400", "9" * 400, "-",
    "--", "=", "-1", "0", "1", "1e-320", "0x10", "1_000", "true", "日本語", "\u202e", "a" * 3000,
    "\r", "\n", "[", "]", "{", "}", "[[", "]]", "'", "\\", "#", "1:2", "relu:n=1", "9" * 20,
    "/dev/zero", "/dev/null", ".", "..", "/", "%s", "{0}", "\x1b[31m",
]  # fmt: skip


# --- changes


def changed_bytes(rng, raw):
    """Return bytes with a few of them flipped, replaced, repeated, moved or left out."""
    raw = bytearray(raw)
    for _ in range(rng.choice((1, 1, 1, 2, 4, 16))):
        if not raw:
            break
        at, kind = rng.randrange(len(raw)), rng.randrange(7)
        if kind == 0:
            raw[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            raw[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
        elif kind == 2:
            del raw[at : at + rng.choice((1, 2, 8, 100))]
        elif kind == 3:
            raw[at:at] = raw[at : at + rng.choice((1, 8, 100))] * rng.choice((1, 3, 50))
        elif kind == 4:
            del raw[at:]
        elif kind == 5:
            raw[at : at + 4] = rng.choice(
                (b"\xff" * 4, b"\0" * 4, b"\x7f\xff\xff\xff", b"\0\0\0\x80")
            )
        else:
            raw[at:at] = rng.randbytes(rng.choice((1, 4, 64)))
    return bytes(raw)


def changed_text(rng, text):
    """Return a text with a few characters, words or lines changed."""
    for _ in range(rng.choice((1, 1, 2, 5))):
        at, kind = rng.randrange(len(text) + 1), rng.randrange(6)
        if kind == 0:
            text = text[:at] + rng.choice(TEXTS) + text[at:]
        elif kind == 1:
            text = text[:at] + text[at + rng.choice((1, 2, 10)) :]
        elif kind == 2:
            lines = text.split("\n")
            i = rng.randrange(len(lines))
            lines[i:i] = [lines[rng.randrange(len(lines))]] * rng.choice((0, 1, 3))
            text = "\n".join(lines)
        elif kind == 3:
            marks = [i for i, c in enumerate(text) if c in ',\n="[]']
            if marks:
                a = rng.choice(marks)
                b = next((m for m in marks if m > a), len(text))
                text = text[: a + 1] + rng.choice(TEXTS) + text[b:]
        elif kind == 4:
            text = text[:at]
        else:
            text = text[:at] + text[at : at + 30] * rng.choice((2, 40)) + text[at + 30 :]
    return text


def paths_in(tree, path=()):
    """Yield the paths of all values in a nest of lists and dictionaries."""
    yield path
    items = (
        tree.items()
        if isinstance(tree, dict)
        else enumerate(tree)
        if isinstance(tree, list)
        else ()
    )
    for key, value in items:
        yield from paths_in(value, (*path, key))


def changed_tree(rng, tree):
    """Return a nest with a few values replaced, left out, repeated, renamed or swapped."""
    tree = copy.deepcopy(tree)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        # nearer ones more often, since a log has many values
        every = [path for path in paths_in(tree) if path]
        if not every:
            return tree
        depth = rng.randrange(1, 1 + max(map(len, every)))
        path = rng.choice([p for p in every if len(p) == depth])
        owner = tree
        for key in path[:-1]:
            owner = owner[key]
        key, kind = path[-1], rng.randrange(7)
        value = owner[key]
        if kind == 0:
            del owner[key]
        elif kind == 1 and isinstance(owner, list):
            owner.insert(key, copy.deepcopy(rng.choice(owner)))
        elif kind == 1:
            owner[rng.choice(("a", "", "name", "format", f"{key}x"))] = owner.pop(key)
        elif kind == 2 and isinstance(value, int | float) and not isinstance(value, bool):
            owner[key] = rng.choice(
                (value + 1, value - 1, -value, value * 1000, float(value), str(value))
            )
        elif kind == 3 and isinstance(value, str):
            owner[key] = changed_text(rng, value)
        elif kind == 4:
            owner[key] = [value] * rng.choice((0, 1, 2))
        elif kind == 5:
            other = rng.choice(every)
            found = tree
            with contextlib.suppress(KeyError, IndexError, TypeError):
                for step in other:
                    found = found[step]
                owner[key] = copy.deepcopy(found)
        else:
            owner[key] = copy.deepcopy(rng.choice(VALUES))
    return tree


def changed_arrays(rng, arrays):
    """Return arrays of which one has another dtype, shape, name or other values, or is missing."""
    import numpy as np

    arrays = dict(arrays)
    name, kind = rng.choice(sorted(arrays)), rng.randrange(6)
    array = arrays[name]
    if kind == 0:
        del arrays[name]
    elif kind == 1:
        arrays[rng.choice((f"{name}x", "9.weight", "carry.", "callbacks.a.b", ".", ""))] = (
            arrays.pop(name)
        )
    elif kind == 2:
        dtype = rng.choice(
            ("float64", "float32", "float16", "int64", "uint8", "bool", "uint32", "uint64")
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            arrays[name] = array.astype(dtype)
    elif kind == 3:
        arrays[name] = rng.choice(
            (array[:0], array.reshape(-1), array[None], array[:-1], array[..., None])
        )
    elif kind == 4:
        arrays[name] = np.full_like(
            array, rng.choice((np.nan, np.inf, -1, 0)) if array.dtype.kind == "f" else 1
        )
    else:
        arrays[name] = np.zeros(rng.choice(((), (0,), (1, 1, 1), (10**6,), (3,))), array.dtype)
    return arrays


# --- formats: each has seeds (file name, bytes), a change, and the commands that read the file


def sealed_change(key):
    """Return the change of a safetensors file of ours: its fields and arrays, with a new hash."""

    def change(rng, raw):
        from safetensors.numpy import load

        from xpnn._core.files import SEAL, sealed

        size = int.from_bytes(raw[:8], "little")
        metadata = json.loads(raw[8 : 8 + size])["__metadata__"]
        content, arrays = json.loads(metadata[key]), load(raw)
        kind = rng.randrange(10)
        if kind < 7:
            content = changed_tree(rng, content)
        if kind in (6, 7, 8):
            arrays = changed_arrays(rng, arrays)
        text = json.dumps(content)
        if kind == 9:
            text = rng.choice(
                (changed_text(rng, text), "[" * 100_000, '{"a":' * 5000, "9" * 5000, "null", "3")
            )
        with contextlib.suppress(Exception):
            return sealed(arrays, {key: text})
        return changed_header(rng, raw, SEAL)

    return change


def changed_header(rng, raw, seal):
    """Change the header that safetensors itself has, and compute the hash anew."""
    size = int.from_bytes(raw[:8], "little")
    header = changed_tree(rng, json.loads(raw[8 : 8 + size]))
    metadata = header.get("__metadata__") if isinstance(header, dict) else None
    if isinstance(metadata, dict):
        metadata[seal] = "0" * 64
    text = json.dumps(header, separators=(",", ":")).encode()
    whole = len(text).to_bytes(8, "little") + text + raw[8 + size :]
    return whole.replace(b"0" * 64, hashlib.sha256(whole).hexdigest().encode(), 1)


def safetensors_change(key):
    change = sealed_change(key)

    def either(rng, raw):
        from xpnn._core.files import SEAL

        kind = rng.randrange(10)
        if kind == 0:
            return changed_header(rng, raw, SEAL)
        return changed_bytes(rng, raw) if kind == 1 else change(rng, raw)

    return either


def json_change(rng, raw):
    """Change a result, with its hash anew, or the file of a study, which has none."""
    from xpnn.study.results import _digest

    content = json.loads(raw)
    hashed = content.pop("sha256", None) is not None
    kind = rng.randrange(10)
    if kind == 0:
        return changed_bytes(rng, raw)
    if kind == 1:
        return rng.choice((b"[" * 100_000, b'{"a":' * 5000, b"9" * 5000, b"null", b"3", b""))
    if isinstance(content.get("source"), str) and rng.random() < 0.5:
        content["source"] = changed_text(rng, content["source"])
    else:
        content = changed_tree(rng, content)
    if hashed and isinstance(content, dict):
        content["sha256"] = _digest(content)
    return json.dumps(content).encode()


def text_change(rng, raw):
    if rng.random() < 0.1:
        return changed_bytes(rng, raw)
    return changed_text(rng, raw.decode()).encode("utf-8", "surrogatepass")


def npy_change(rng, raw):
    """Change an NPY file's header as a text, and its length with it, or any bytes."""
    if rng.random() < 0.3:
        return changed_bytes(rng, raw)
    size = int.from_bytes(raw[8:10], "little")
    header, body = raw[10 : 10 + size].decode("latin1"), raw[10 + size :]
    shapes = (
        "(10**15,)",
        "(1000000000000000,)",
        "(-1, 4)",
        "(2, 1000000000000)",
        "()",
        "(0,)",
        "(0, 0)",
        "(1000000000000000, 0)",
        "('a',)",
        "(True, 2)",
        "(3.0,)",
        "None",
    )
    dtypes = (
        "<f8",
        ">f4",
        "|O",
        "|V0",
        "<U0",
        "|S0",
        "<U1000000000",
        "<M8[s]",
        "|b1",
        "<c16",
        "zz",
        "<f16",
    )
    kind = rng.randrange(4)
    if kind == 0:
        begin = header.index("'shape': ") + 9
        header = header[:begin] + rng.choice(shapes) + header[header.index(")", begin) + 1 :]
    elif kind == 1:
        begin = header.index("'descr': '") + 10
        header = header[:begin] + rng.choice(dtypes) + header[header.index("'", begin) :]
    elif kind == 2:
        header = changed_text(rng, header)
    else:
        header = rng.choice(
            ("(" * 5000, "[" * 200 + "]" * 200, "{}", "1", "x" * 20_000, header * 30)
        )
    text = header.encode("utf-8", "replace")
    version = rng.choice((b"\1\0", b"\1\0", b"\2\0", b"\3\0", b"\4\0"))
    length = struct.pack("<H" if version == b"\1\0" else "<I", min(len(text), 65535))
    return raw[:6] + version + length + text + body


def npz_change(rng, raw):
    """Change the members of an NPZ file, or any of its bytes."""
    if rng.random() < 0.4:
        return changed_bytes(rng, raw)
    with zipfile.ZipFile(io.BytesIO(raw)) as archive:
        members = [(info.filename, archive.read(info)) for info in archive.infolist()]
    out = io.BytesIO()
    methods = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with zipfile.ZipFile(out, "w", rng.choice(methods)) as archive:
            for name, content in members:
                kind = rng.randrange(6)
                content = npy_change(rng, content) if kind < 3 else content
                name = (
                    rng.choice((name, "x", "y.npy", "x.npy", "x_train.npy", "a"))
                    if kind == 3
                    else name
                )
                if kind != 4:
                    archive.writestr(name, content)
    raw = bytearray(out.getvalue())
    if rng.random() < 0.3:
        # sizes, flags and methods in the directory
        at = raw.rfind(b"PK\x01\x02")
        if at >= 0:
            where = at + rng.choice((8, 10, 16, 20, 24, 42))
            raw[where : where + 4] = rng.choice(
                (b"\xff\xff\xff\xff", b"\0\0\0\0", b"\1\0\0\0", rng.randbytes(4))
            )
    return bytes(raw)


def gzip_change(rng, raw):
    """Change the text below the checksum, or the gzip file itself."""
    kind = rng.randrange(4)
    if kind == 0:
        return changed_bytes(rng, raw)
    if kind == 1:
        piece = rng.choice((b"0", b"1,2,3\n", b"a" * 1000, b'"', b","))
        # the last one grows beyond what is allowed
        size = rng.choice((10, 10**4, 10**6, 10**6, 10**6, 3 * 10**8))
        return gzip.compress(gzip.decompress(raw) + piece * (size // len(piece) + 1), 1)
    content = text_change(rng, gzip.decompress(raw))
    return gzip.compress(content, 1) + rng.choice((b"", b"", b"x", gzip.compress(b"1,2\n")))


def idx_change(rng, raw):
    """Change an IDX file's header, or any bytes, below gzip's checksum or not."""
    if rng.random() < 0.5:
        at = rng.randrange(16)
        raw = raw[:at] + rng.choice((b"\0", b"\xff", b"\1", rng.randbytes(1))) + raw[at + 1 :]
    else:
        raw = changed_bytes(rng, raw)
    return gzip.compress(raw, 1) if rng.random() < 0.3 else raw


def png_change(rng, raw):
    """Change the chunks of a PNG file, with checksums anew, or any bytes."""
    if rng.random() < 0.3:
        return changed_bytes(rng, raw)
    chunks, at = [], 8
    while at < len(raw):
        size = int.from_bytes(raw[at : at + 4], "big")
        chunks.append((raw[at + 4 : at + 8], raw[at + 8 : at + 8 + size]))
        at += 12 + size
    i = rng.randrange(len(chunks))
    name, content = chunks[i]
    kind = rng.randrange(5)
    if name == b"IHDR" and kind < 3:
        width, height = (rng.choice((0, 1, 4, 5, 60_000, 2**31 - 1)) for _ in range(2))
        content = (
            struct.pack(">II", width, height)
            + bytes(rng.choice(((8, 0), (16, 0), (8, 2), (1, 3), (8, 6), (9, 9))))
            + b"\0\0\0"
        )
        chunks[i] = name, content
    elif kind == 3:
        del chunks[i]
    elif name == b"IDAT" and kind == 0:
        chunks[i] = name, zlib.compress(b"\0" * rng.choice((1, 10**6, 10**8)), 9)
    elif kind == 4:
        chunks.insert(
            i,
            (
                rng.choice((b"tEXt", b"zTXt", b"iCCP", b"PLTE", b"acTL", b"eXIf")),
                b"a\0\0" + zlib.compress(b"\0" * 10**6),
            ),
        )
    else:
        chunks[i] = name, changed_bytes(rng, content)
    out = raw[:8]
    for name, content in chunks:
        out += (
            len(content).to_bytes(4, "big")
            + name
            + content
            + zlib.crc32(name + content).to_bytes(4, "big")
        )
    return out


def toml_change(rng, raw):
    return (
        text_change(rng, raw)
        if rng.random() < 0.9
        else rng.choice(
            (b"a = " + b"[" * 5000, b"[" * 5000, b"a." * 5000 + b"b = 1", b"seed = " + b"9" * 5000)
        )
    )


def seeds(folder):
    """Write the valid files into a folder."""
    import numpy as np
    from PIL import Image

    import xpnn
    import xpnn.study

    rng = np.random.RandomState(0)
    x, y = rng.randn(60, 4), rng.randint(0, 3, 60)
    lines = [
        ",".join([*map(repr, row.tolist()), "abc"[label]]) for row, label in zip(x, y, strict=True)
    ]
    (folder / "rows.csv").write_text("\n".join(["p,q,r,s,kind", *lines, ""]))
    texts = [
        f"{row[0]:.17g},{'uvw'[i % 3]},{'' if i % 7 == 3 else i},{'ab'[i % 2]}"
        for i, row in enumerate(x)
    ]
    (folder / "texts.csv").write_text("\n".join(["p,town,age,kind", *texts, ""]))
    (folder / "few.csv").write_text("\n".join(["p,q,r,s,kind", *lines[:6], ""]))
    for name in ("few", "rows"):
        (folder / f"{name}.csv.gz").write_bytes(
            gzip.compress((folder / f"{name}.csv").read_bytes(), mtime=0)
        )
    for name, data, hidden in (("rows", "rows.csv", 5), ("texts", "texts.csv", 4)):
        read = xpnn.datasets.load(folder / data)
        model = xpnn.Sequential(
            xpnn.Dense(hidden),
            xpnn.BatchNorm(),
            xpnn.Activation("elu", alpha=0.5),
            xpnn.Dropout(0.25),
            xpnn.Dense(len(set(read.y.tolist()))),
        )
        xpnn.fit(
            model,
            read,
            validation=0.2,
            epochs=3,
            batch_size=10,
            seed=1,
            verbose=False,
            normalizer="standard",
            loss=xpnn.Flooding(xpnn.CrossEntropy(), b=0.01),
            metrics="f1",
            callbacks=[
                xpnn.Checkpoint(folder / f"{name}.ckpt"),
                xpnn.CSVLogger(folder / f"{name}.log.csv", hashes=True),
                xpnn.EarlyStopping("test_loss", patience=9),
            ],
        )
        xpnn.save(model, folder / f"{name}.safetensors")
        (folder / f"{name}.ckpt.previous").unlink()
    study = f"""
        hidden = "4"
        epochs = 2
        activation = ["relu", "h_swish:n=5"]
        optimizer = "sgd:lr=0.1"
        [data]
        path = "{folder / "rows.csv"}"
        validation = 0.2
        target = "kind"
    """
    (folder / "grid.toml").write_text(study)
    (folder / "experiments.toml").write_text(f"""
        title = "Two"
        data = "{folder / "rows.csv"}"
        epochs = 1
        [[experiment]]
        name = "one"
        [[experiment.table]]
        title = "A table"
        rows = [{{ hidden = "3" }}, {{ hidden = "4", seed = 3 }}]
        [[experiment.figure]]
        runs = [{{ hidden = "3", label = "three" }}]
        [[repeat]]
        reproducible = true
    """)
    xpnn.study.run(str(folder / "grid.toml"), out=folder / "runs", jobs=1, progress=False)
    np.save(folder / "x.npy", x)
    np.save(folder / "y.npy", y)
    np.savez_compressed(folder / "data.npz", x=x, y=y)
    pictures = rng.randint(0, 256, (12, 5, 4)).astype(np.uint8)
    for i, name in enumerate(("train-images-idx3-ubyte", "train-labels-idx1-ubyte")):
        array = (pictures, np.arange(12, dtype=np.uint8) % 3)[i]
        shape = b"".join(n.to_bytes(4, "big") for n in array.shape)
        (folder / name).write_bytes(bytes([0, 0, 8, array.ndim]) + shape + array.tobytes())
    for i, pixels in enumerate(pictures[:4]):
        Image.fromarray(pixels).save(folder / f"picture{i}.png")
    Image.fromarray(pictures[0]).save(folder / "picture.jpg")


FEW = ["--hidden", "3", "--epochs", "1", "--quiet"]


def reading_commands(folder, path):
    """Return the commands that read data, for a path of data."""
    return [
        ["train", path, *FEW, "--validation", "0.2"],
        ["predict", f"{folder}/rows.safetensors", path, "--out", "out.csv"],
        ["evaluate", f"{folder}/texts.safetensors", path, "--json"],
    ]


# the format: its files, the change, where the changed file goes, and the commands
FORMATS = {
    "model": (
        ["rows.safetensors", "texts.safetensors"],
        safetensors_change("xpnn"),
        "m.safetensors",
        lambda s: [
            ["show", "m.safetensors"],
            ["predict", "m.safetensors", f"{s}/few.csv", "--proba", "--out", "out.csv"],
            ["train", f"{s}/rows.csv", "--from", "m.safetensors", "--epochs", "1", "--quiet"],
        ],
    ),
    "checkpoint": (
        ["rows.ckpt"],
        safetensors_change("checkpoint"),
        "m.ckpt",
        lambda s: [
            ["resume", "m.ckpt", f"{s}/rows.csv"],
        ],
    ),
    "study": (
        ["runs/study.json"],
        json_change,
        "runs/study.json",
        lambda s: [["study", "report", "runs"]],
    ),
    "result": (
        ["runs/*-*.json"],
        json_change,
        None,
        lambda s: [["study", "report", "runs"]],
    ),
    "log": (
        ["rows.log.csv"],
        text_change,
        "log.csv",
        lambda s: [
            ["read_log", "log.csv"],
            ["read_log", "log.csv"],
            ["plot", "history", "log.csv", "--out", "p.png"],
        ],
    ),
    "npy": (
        ["x.npy"],
        npy_change,
        "x.npy",
        lambda s: [
            ["train", f"x.npy,{s}/y.npy", *FEW],
            ["predict", f"{s}/rows.safetensors", "x.npy", "--out", "o.csv"],
        ],
    ),
    "npz": (["data.npz"], npz_change, "data.npz", lambda s: [["train", "data.npz", *FEW]]),
    "gzip": (
        ["few.csv.gz", "rows.csv.gz"],
        gzip_change,
        "d.csv.gz",
        lambda s: reading_commands(s, "d.csv.gz"),
    ),
    "csv": (["few.csv", "texts.csv"], text_change, "d.csv", lambda s: reading_commands(s, "d.csv")),
    "png": (
        ["picture0.png"],
        png_change,
        "images/a/0.png",
        lambda s: [
            ["train", "images", *FEW],
            ["predict", f"{s}/rows.safetensors", "images/a/0.png", "--out", "o.csv"],
        ],
    ),
    "jpeg": (
        ["picture.jpg"],
        changed_bytes,
        "images/a/0.jpg",
        lambda s: [["train", "images", *FEW]],
    ),
    "idx": (
        ["train-images-idx3-ubyte", "train-labels-idx1-ubyte"],
        idx_change,
        "idx/",
        lambda s: [["train", "idx", *FEW]],
    ),
    "toml": (
        ["grid.toml", "experiments.toml"],
        toml_change,
        "s.toml",
        lambda s: [["study", "list", "s.toml"]],
    ),
}


def argument_commands(folder):
    """Return commands whose arguments are changed."""
    rows, model = f"{folder}/rows.csv", f"{folder}/rows.safetensors"
    return [
        [
            "train",
            rows,
            "--hidden",
            "4,3",
            "--epochs",
            "1",
            "--activation",
            "h_swish:n=5",
            "--optimizer",
            "sgd:lr=0.1",
            "--validation",
            "0.2",
            "--target",
            "kind",
            "--class-weight",
            "balanced",
            "--schedule",
            "cosine",
            "--batch-size",
            "16",
            "--seed",
            "3",
            "--normalize",
            "standard",
            "--dropout",
            "0.2",
            "--metrics",
            "f1",
        ],
        [
            "train",
            rows,
            "--resume",
            f"{folder}/rows.ckpt",
            "--digits",
            "all",
            "--epochs",
            "2",
            "--warmup",
            "1",
        ],
        [
            "train",
            f"{folder}/texts.csv",
            "--encode",
            "town=ordinal",
            "--missing",
            "age=30",
            "--epochs",
            "1",
            "--patience",
            "2",
            "--monitor",
            "test_loss",
            "--min-delta",
            "0.1",
            "--validation",
            "0.3",
            "--flood",
            "0.1",
        ],
        ["show", model],
        [
            "evaluate",
            model,
            rows,
            "--metrics",
            "f1,accuracy",
            "--held-out",
            "--header",
            "yes",
            "--json",
        ],
        [
            "predict",
            model,
            f"{folder}/few.csv",
            "--proba",
            "--dtype",
            "float64",
            "--max-bytes",
            "100000",
        ],
        ["plot", "history", f"{folder}/rows.log.csv", "--out", "h.png"],
        ["plot", "activations", "relu,elu:alpha=2", "--range", "-4,4", "--out", "a.png"],
        ["plot", "confusion", model, rows, "--out", "c.png"],
        ["plot", "errors", model, f"{folder}/idx", "--count", "5", "--out", "e.png"],
        ["export", model, "m.onnx", "--dtype", "float32"],
        ["study", "list", f"{folder}/grid.toml"],
        ["study", "report", f"{folder}/runs"],
        ["verify", model, rows, "--backends", "numpy,strict", "--dtype", "float32"],
        ["backends"],
    ]


def changed_arguments(rng, argv):
    argv = list(argv)
    for _ in range(rng.choice((1, 1, 2, 3))):
        at, kind = rng.randrange(len(argv)), rng.randrange(6)
        if kind == 0:
            argv[at] = changed_text(rng, argv[at]).replace("\0", "")
        elif kind == 1:
            argv[at] = rng.choice(TEXTS).replace("\0", "")
        elif kind == 2 and len(argv) > 1:
            del argv[at]
        elif kind == 3:
            argv.insert(at, argv[rng.randrange(len(argv))])
        elif kind == 4:
            other = rng.randrange(len(argv))
            argv[at], argv[other] = argv[other], argv[at]
        else:
            argv.append(
                rng.choice(
                    ("--help", "--version", "--out", "--json", "--backend", "nothing", "--parts")
                )
            )
    return argv


# --- cases


def outcome(argv):
    """Run a command in this process; return its status, and what is wrong or None."""
    from xpnn.cli import main

    out, err = io.StringIO(), io.StringIO()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = special(argv) if argv[0] in ("resume", "read_log") else main(argv)
    except SystemExit as error:
        status = error.code
    except MemoryError:
        return None, "MemoryError"
    except Slow as error:
        return None, f"took too long: {place(error)}"
    except BaseException as error:
        return None, f"{type(error).__name__}: {error} at {place(error)}"
    return status, wrong_in(status, err.getvalue())


def wrong_in(status, told):
    if "Traceback" in told:
        return f"a traceback on standard error: {told[-300:]}"
    if status not in (0, 1, 2, None):
        return f"exit status {status}"
    if status == 2:
        lines = [line for line in told.splitlines() if "error: " in line]
        if len(lines) != 1 or told.count("\n") != 1:
            return f"{told.count(chr(10))} lines for an error: {told[-400:]!r}"
        if "out of memory" in told:
            return f"ran out of memory: {told!r:.300}"
    return None


def special(argv):
    """Resume from Python, with the callbacks that the checkpoint knows; or read a log."""
    import xpnn

    try:
        if argv[0] == "read_log":
            xpnn.callbacks.read_log(argv[1])
            return 0
        read = xpnn.datasets.load(argv[2])
        model = xpnn.Sequential(
            xpnn.Dense(5),
            xpnn.BatchNorm(),
            xpnn.Activation("elu", alpha=0.5),
            xpnn.Dropout(0.25),
            xpnn.Dense(3),
        )
        xpnn.fit(
            model,
            read,
            validation=0.2,
            epochs=4,
            batch_size=10,
            seed=1,
            verbose=False,
            normalizer="standard",
            loss=xpnn.Flooding(xpnn.CrossEntropy(), b=0.01),
            metrics="f1",
            resume=argv[1],
            callbacks=[xpnn.EarlyStopping("test_loss", patience=9)],
        )
    except xpnn.XpnnError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return 0


def place(error):
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "xpnn" in f.filename]
    return " < ".join(f"{Path(f.filename).name}:{f.lineno}" for f in reversed(frames[-4:]))


def prepared(name, source, rng, work):
    """Write the changed file of a case into the folder `work`; return the command."""
    if name == "arguments":
        return changed_arguments(rng, rng.choice(argument_commands(source)))
    patterns, change, target, commands = FORMATS[name]
    files = sorted(path for pattern in patterns for path in source.glob(pattern))
    chosen = rng.choice(files)
    raw = change(rng, chosen.read_bytes())
    for folder in ("runs", "images", "idx"):
        shutil.rmtree(work / folder, ignore_errors=True)
    if name in ("study", "result"):
        shutil.copytree(
            source / "runs", work / "runs", ignore=shutil.ignore_patterns("figures", "*.html")
        )
        (work / "runs" / chosen.name).write_bytes(raw)
    elif name in ("png", "jpeg"):
        for i, label in enumerate("ab"):
            (work / "images" / label).mkdir(parents=True)
            shutil.copy(source / f"picture{i + 1}.png", work / "images" / label / "1.png")
        (work / target).write_bytes(raw)
    elif name == "idx":
        (work / "idx").mkdir()
        for each in files:
            shutil.copy(each, work / "idx" / each.name)
        ending = ".gz" if raw[:2] == b"\x1f\x8b" else ""
        (work / "idx" / chosen.name).unlink()
        (work / "idx" / f"{chosen.name}{ending}").write_bytes(raw)
    else:
        (work / target).write_bytes(raw)
    return rng.choice(commands(source))


class Slow(BaseException):
    """Raised by the alarm."""


def alarmed(signum, frame):
    raise Slow


def child(pipe, name, source, numbers, seed, seconds, megabytes):
    """Do cases one after the other, and tell of each one before and after it."""
    os.environ["MPLBACKEND"] = "Agg"
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        os.chdir(work)
        devnull = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(devnull, stream)
        import matplotlib.pyplot  # noqa: F401

        import xpnn.cli  # noqa: F401

        # above what the libraries take already
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        limit = used + megabytes * 2**20
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        # processor time, as others may work on the machine; who waits is found by the parent
        signal.signal(signal.SIGPROF, alarmed)
        for number in numbers:
            rng = random.Random(f"{seed} {name} {number}")
            argv = prepared(name, source, rng, work)
            pipe.send(("begin", number, argv))
            begun = time.process_time()
            signal.setitimer(signal.ITIMER_PROF, seconds)
            status, wrong = outcome(argv)
            signal.setitimer(signal.ITIMER_PROF, 0)
            taken = time.process_time() - begun
            kept = {}
            if wrong is not None:
                for path in work.rglob("*"):
                    if path.is_file() and path.stat().st_size < 10**6:
                        kept[str(path.relative_to(work))] = base64.b64encode(
                            path.read_bytes()
                        ).decode()
            pipe.send(("end", number, argv, status, wrong, taken, kept))
            for path in work.iterdir():
                if path.is_file():
                    path.unlink()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        pipe.send(("done", peak))


def fuzzed(name, source, options):
    """Do all cases of a format; return those that failed, and figures."""
    context = multiprocessing.get_context("spawn")
    left, failures = list(range(options.count)), []
    refused, longest, peak = 0, 0.0, 0
    while left:
        ours, theirs = context.Pipe(duplex=False)
        batch = left[: options.batch]
        process = context.Process(
            target=child,
            args=(theirs, name, source, batch, options.seed, options.seconds, options.megabytes),
        )
        process.start()
        theirs.close()
        current, done = None, 0
        while True:
            # an alarm can't end what holds the interpreter
            if not ours.poll(options.seconds * 12):
                process.kill()
                failures.append((name, *(current or (batch[done], [])), "hangs", {}))
                done += 1
                break
            try:
                message = ours.recv()
            except EOFError:
                process.join()
                failures.append(
                    (
                        name,
                        *(current or (batch[done], [])),
                        f"the process ended with {process.exitcode}",
                        {},
                    )
                )
                done += 1
                break
            if message[0] == "begin":
                current = message[1:]
            elif message[0] == "end":
                _, number, argv, status, wrong, taken, kept = message
                refused += status == 2
                current, done, longest = None, done + 1, max(longest, taken)
                if wrong is not None:
                    failures.append((name, number, argv, wrong, kept))
            else:
                peak = max(peak, message[1])
                break
        process.join()
        left = left[done:]
    return failures, refused, longest, peak


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--count", type=int, default=2000, help="cases of each format")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", help=f"of {', '.join((*FORMATS, 'arguments'))}")
    parser.add_argument("--megabytes", type=int, default=1536, help="memory beyond the libraries'")
    parser.add_argument("--seconds", type=float, default=10.0, help="the most that a case may take")
    parser.add_argument("--batch", type=int, default=100, help="cases in a process")
    parser.add_argument("--keep", type=Path, help="where the files of failures go")
    options = parser.parse_args(argv)
    names = options.only.split(",") if options.only else [*FORMATS, "arguments"]
    found = []
    print("format      cases  failures  refused  longest  peak memory", flush=True)
    line = "{:10s} {:6d} {:9d} {:8d} {:6.1f} s {:8d} MiB"
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder)
        seeds(source)
        (source / "idx").mkdir()
        for path in source.glob("*ubyte"):
            shutil.copy(path, source / "idx")
        for name in names:
            failures, *figures = fuzzed(name, source, options)
            found += failures
            print(line.format(name, options.count, len(failures), *figures), flush=True)
            for case in failures[:20]:
                print(f"  {case[1]}: {case[2]}: {case[3]}"[:700], flush=True)
            for _, number, _, _, kept in failures if options.keep else ():
                for path, content in kept.items():
                    target = options.keep / f"{name}-{number}" / path
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_bytes(base64.b64decode(content))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
