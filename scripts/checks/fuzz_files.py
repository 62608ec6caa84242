"""Change the files that xpnn reads, and its commands' arguments, and see that it never breaks.

    python scripts/checks/fuzz_files.py [--count 2000] [--seed 0] [--only model,npz]
        [--minutes 60] [--megabytes 1536] [--seconds 10] [--batch 200] [--keep FOLDER]

Each case begins with a folder of small valid files, changes one of them, and runs a command that
reads it. What is below a hash or a checksum is changed first, and the hash computed anew, so that
the checks of the content are tried, not the hash. Half of the changes are gentle: they replace a
value by another one of its type, so that more of them pass the first checks. The seed determines
the cases.

A case passes if the command ends with 0 or 1, or with 2 and one line "error: …" on standard error,
within a limit of memory (beyond that of the libraries) and of time (without that in which it waits
for a free processor). Exit status 1 unless all pass;
each that doesn't is printed, and with `--keep` its folder is kept.
"""

import argparse
import contextlib
import copy
import gzip
import hashlib
import importlib.machinery
import io
import itertools
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
import warnings
import zipfile
import zlib
from pathlib import Path

# what a field is replaced by: borders of types, other types, other sizes
VALUES = [
    None, True, False, 0, -1, 1, 2, 624, 625, 255, 2**31, 2**32, 2**53, 2**63, -(2**63), 2**64,
    10**30, 10**400, 0.0, -0.0, 0.5, 1e-320, 1e308, -1e308, float("nan"), float("inf"),
    -float("inf"), "", "a", "0", "relu", "None", "\0", "日本語", "x" * 5000, "../a",
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

DIGITS = "0123456789.e-"
DEEP = ["[" * 100_000, '{"a":' * 5000, "9" * 5000, "null", "3", ""]
TOML = ["a = " + "[" * 5000, "[" * 5000, "a." * 5000 + "b = 1", "seed = " + "9" * 5000]
SHAPES = [
    "(10**15,)", "(1000000000000000,)", "(-1, 4)", "(2, 1000000000000)", "()", "(0,)", "(0, 0)",
    "(60, 4)", "(4, 60)", "(240,)", "(1000000000000000, 0)", "('a',)", "(True, 2)", "(3.0,)",
]  # fmt: skip
DTYPES = [
    "<f8", ">f4", ">f8", "<i8", "|O", "|V0", "|V8", "<U0", "<U2", "|S0", "|S8", "<U1000000000",
    "<M8[s]", "|b1", "<c16", "zz", "<f16",
]  # fmt: skip


# --- changes


def changed_bytes(rng, raw):
    """Return bytes with a few of them flipped, replaced, repeated, moved or left out."""
    raw = bytearray(raw)
    for _ in range(rng.choice((1, 1, 1, 2, 4, 16))):
        at, size = rng.randrange(len(raw) + 1), rng.choice((1, 2, 8, 100))
        same = raw[at : at + size]
        edge = rng.choice((b"\xff" * 4, b"\0" * 4, b"\x7f\xff\xff\xff", b"\0\0\0\x80"))
        flipped = bytes(byte ^ 1 << rng.randrange(8) for byte in same[:1])
        old, new = rng.choice(
            [(1, flipped), (1, rng.randbytes(1)), (size, b""), (0, same * rng.choice((1, 3, 50))),
             (len(raw), b""), (4, edge), (0, rng.randbytes(size))]
        )  # fmt: skip
        raw[at : at + old] = new
    return bytes(raw)


def is_number(text):
    return text.strip("-+.").replace(".", "").replace("e-", "").isdecimal()


def changed_text(rng, text):
    """Return a text with a few characters, words or lines changed."""
    gentle = rng.random() < 0.5
    for _ in range(1 if gentle else rng.choice((1, 1, 2, 5))):
        lines, at = text.split("\n"), rng.randrange(len(text) + 1)
        marks = [-1, *(i for i, c in enumerate(text) if c in ',\n="[]'), len(text)]
        cells = [slice(a + 1, b) for a, b in itertools.pairwise(marks)]
        cell, line = rng.choice(cells), rng.randrange(len(lines))
        again = [rng.choice(lines)] * rng.choice((0, 1, 3))
        same = [text[c] for c in cells if is_number(text[c]) == is_number(text[cell])]
        edits = [
            (cell, rng.choice(same)),
            (cell, text[cell].replace(rng.choice(DIGITS), rng.choice(DIGITS))),
            (slice(None), "\n".join([*lines[:line], *again, *lines[line + 1 :]])),
            (cell, rng.choice(TEXTS)),
            (cell, text[rng.choice(cells)]),
            (slice(at, at), rng.choice(TEXTS)),
            (slice(at, at + rng.choice((1, 2, 10))), ""),
            (slice(at, None), ""),
            (slice(at, at), text[at : at + 30] * rng.choice((1, 40))),
        ]
        where, new = rng.choice(edits[:3] if gentle else edits)
        begin, end, _ = where.indices(len(text))
        text = text[:begin] + new + text[end:]
    return text


def places_in(tree):
    """Yield each list or dictionary of a nest, with each of its keys and the depth."""
    queue = [(tree, 0)]
    for node, depth in queue:
        pairs = node.items() if isinstance(node, dict) else enumerate(node)
        for key, value in pairs:
            yield node, key, depth
            if isinstance(value, dict | list):
                queue.append((value, depth + 1))


def changed_tree(rng, tree):
    """Return a nest with a few values replaced, left out, repeated, renamed or swapped."""
    tree, gentle = copy.deepcopy(tree), rng.random() < 0.5
    for _ in range(1 if gentle else rng.choice((1, 1, 1, 2, 3))):
        if not isinstance(tree, dict | list) or not (places := list(places_in(tree))):
            break
        # each depth as often, since a log has many values
        depth = rng.choice(sorted({place[2] for place in places}))
        owner, key, _ = rng.choice([place for place in places if place[2] == depth])
        value = owner[key]
        others = [a[k] for a, k, _ in places]
        if gentle:
            same = [v for v in (*others, *near(rng, value)) if type(v) is type(value)]
            owner[key] = copy.deepcopy(rng.choice(same))
            continue
        kind = rng.randrange(6)
        if kind == 0:
            del owner[key]
        elif kind == 1 and isinstance(owner, list):
            owner.insert(key, copy.deepcopy(value))
        elif kind == 1:
            owner[rng.choice(("a", "", "name", "format", f"{key}x"))] = owner.pop(key)
        elif kind == 2:
            owner[key] = [value] * rng.choice((0, 1, 2))
        elif kind == 3:
            owner[key] = copy.deepcopy(rng.choice(others))
        else:
            owner[key] = copy.deepcopy(rng.choice([*VALUES, *near(rng, value)]))
    return tree


def near(rng, value):
    """Return values that differ a little from a value of a file."""
    if isinstance(value, bool | None):
        return [not value]
    if isinstance(value, int | float):
        # a whole number of 400 digits is none of the floats
        same = float(value) if abs(value) < 1e300 else 1e300
        return [value + 1, value - 1, -value, value * 1000, same, str(value)]
    if isinstance(value, str):
        return [changed_text(rng, value)]
    items = list(value.items() if isinstance(value, dict) else value)
    rng.shuffle(items)
    return [type(value)(items), type(value)(items[1:])]


def changed_arrays(rng, arrays):
    """Return arrays of which one has another dtype, shape, name or other values, or is missing."""
    import numpy as np

    arrays = dict(arrays)
    name = rng.choice(sorted(arrays))
    array = arrays.pop(name)
    kind = rng.randrange(6)
    if kind == 0:
        return arrays
    if kind == 1:
        name = rng.choice((f"{name}x", "9.weight", "carry.", "callbacks.a.b", ".", ""))
    elif kind == 2:
        dtypes = ("float64", "float32", "float16", "int64", "uint8", "bool", "uint32", "uint64")
        with warnings.catch_warnings(action="ignore"):
            array = array.astype(rng.choice(dtypes))
    elif kind == 3:
        flat = array.reshape(-1)
        array = rng.choice((flat[:0], flat, flat[:-1], array[None], array[..., None]))
    elif kind == 4 and array.size:
        array = array.copy()
        values = (np.nan, np.inf, -1e300, -1, 0) if array.dtype.kind == "f" else (0, 1, 100)
        with warnings.catch_warnings(action="ignore"):
            array.reshape(-1)[:: rng.choice((1, array.size))] = rng.choice(values)
    else:
        array = np.zeros(rng.choice(((), (0,), (1, 1, 1), (10**6,), (3,))), array.dtype)
    return {**arrays, name: array}


# --- formats: each returns the changed content of a file


def safetensors(key):
    """Return the change of a safetensors file of ours: fields, arrays, header, or any bytes."""

    def change(rng, raw):
        from safetensors.numpy import load

        from xpnn._core.files import SEAL, sealed

        size = int.from_bytes(raw[:8], "little")
        header, kind = json.loads(raw[8 : 8 + size]), rng.randrange(12)
        if kind == 0:
            return changed_bytes(rng, raw)
        if kind > 1:
            content, arrays = json.loads(header["__metadata__"][key]), load(raw)
            content = changed_tree(rng, content) if kind < 8 else content
            arrays = changed_arrays(rng, arrays) if kind in (7, 8, 9, 10) else arrays
            text = json.dumps(content)
            text = rng.choice([changed_text(rng, text), *DEEP]) if kind == 11 else text
            # the library writes no name or text that isn't UTF-8
            with contextlib.suppress(Exception):
                return sealed(arrays, {key: text})
        header = changed_tree(rng, header)
        if isinstance(header.get("__metadata__"), dict):
            header["__metadata__"][SEAL] = "0" * 64
        text = json.dumps(header, separators=(",", ":")).encode()
        whole = len(text).to_bytes(8, "little") + text + raw[8 + size :]
        return whole.replace(b"0" * 64, hashlib.sha256(whole).hexdigest().encode(), 1)

    return change


def json_file(rng, raw):
    """Change a result, with its hash anew, or the file of a study, which has none."""
    from xpnn.study.results import _digest

    content = json.loads(raw)
    hashed = content.pop("sha256", None) is not None
    if rng.random() < 0.1:
        return rng.choice([changed_bytes(rng, raw), *(text.encode() for text in DEEP)])
    if "source" in content and rng.random() < 0.5:
        content["source"] = changed_text(rng, content["source"])
    else:
        content = changed_tree(rng, content)
    if hashed:
        content["sha256"] = _digest(content)
    return json.dumps(content).encode()


def text(rng, raw):
    if rng.random() < 0.1:
        return changed_bytes(rng, raw)
    return changed_text(rng, raw.decode()).encode("utf-8", "surrogatepass")


def toml(rng, raw):
    return rng.choice(TOML).encode() if rng.random() < 0.05 else text(rng, raw)


def npy(rng, raw):
    """Change an NPY file's header as a text, and its length with it, or any bytes."""
    if rng.random() < 0.3:
        return changed_bytes(rng, raw)
    size = int.from_bytes(raw[8:10], "little")
    header, body = raw[10 : 10 + size].decode("latin1"), raw[10 + size :]
    shape, dtype = header[header.index("(") : header.index(")") + 1], header.split("'")[3]
    odd = ("(" * 5000, "[" * 200 + "]" * 200, "{}", "1", "x" * 20_000, header * 30)
    changes = [
        header.replace(shape, rng.choice(SHAPES)),
        header.replace(dtype, rng.choice(DTYPES)),
        header.replace("False", "True"),
        changed_text(rng, header),
        rng.choice(odd),
    ]
    content = rng.choice(changes).encode("utf-8", "replace")
    version = rng.choice((b"\1\0", b"\1\0", b"\1\0", b"\2\0", b"\3\0", b"\4\0"))
    length = struct.pack("<H" if version == b"\1\0" else "<I", min(len(content), 65535))
    return raw[:6] + version + length + content + body


def npz(rng, raw):
    """Change the members of an NPZ file, what its directory says, or any of its bytes."""
    if rng.random() < 0.2:
        return changed_bytes(rng, raw)
    with zipfile.ZipFile(io.BytesIO(raw)) as archive:
        members = [(name, archive.read(name)) for name in archive.namelist()]
    i, kind = rng.randrange(len(members)), rng.randrange(6)
    name, content = members.pop(i)
    names = ("x", "y.npy", "x.npy", "x_train.npy", "x_test.npy", "weights", "a")
    if kind:
        changed = rng.choice(names) if kind == 1 else name
        members.insert(i, (changed, npy(rng, content) if kind > 1 else content))
    out, methods = io.BytesIO(), (*[zipfile.ZIP_DEFLATED] * 6, zipfile.ZIP_STORED, zipfile.ZIP_LZMA)
    with warnings.catch_warnings(action="ignore"):
        archive = zipfile.ZipFile(out, "w", rng.choice(methods))
        for name, content in members:
            archive.writestr(name, content)
        archive.close()
    raw = bytearray(out.getvalue())
    at = raw.rfind(b"PK\x01\x02")
    if at >= 0 and rng.random() < 0.2:
        # flags, method, checksum, sizes and position
        where = at + rng.choice((8, 10, 16, 20, 24, 42))
        edges = (b"\xff\xff\xff\xff", b"\0\0\0\0", b"\1\0\0\0", rng.randbytes(4))
        raw[where : where + 4] = rng.choice(edges)
    return bytes(raw)


def gzipped(rng, raw):
    """Change the text below the checksum, let it grow, or change the gzip file itself."""
    kind, content = rng.randrange(4), gzip.decompress(raw)
    if kind == 0:
        return changed_bytes(rng, raw)
    if kind == 1:
        piece = rng.choice((b"0", b"1,2,3\n", b"a" * 1000, b'"', b","))
        # the last one grows beyond what is allowed; written in turn, it takes no memory here
        size = rng.choice((10, 10**4, 10**6, 10**6, 10**6, 3 * 10**8))
        block = piece * (min(size, 10**6) // len(piece) + 1)
        out = io.BytesIO()
        with gzip.GzipFile(fileobj=out, mode="wb", compresslevel=1) as file:
            file.write(content)
            for _ in range(max(size // 10**6, 1)):
                file.write(block)
        return out.getvalue()
    return gzip.compress(text(rng, content), 1) + rng.choice((b"", b"", b"x", raw))


def idx(rng, raw):
    """Change an IDX file's header, or any bytes; half of them are compressed then."""
    if rng.random() < 0.5:
        at, byte = rng.randrange(16), rng.choice((b"\0", b"\xff", b"\1", rng.randbytes(1)))
        raw = raw[:at] + byte + raw[at + 1 :]
    else:
        raw = changed_bytes(rng, raw)
    return gzip.compress(raw, 1) if rng.random() < 0.5 else raw


def png(rng, raw):
    """Change the chunks of a PNG file, with checksums anew, or any bytes."""
    if rng.random() < 0.3:
        return changed_bytes(rng, raw)
    chunks, at = [], 8
    while at < len(raw):
        end = at + 8 + int.from_bytes(raw[at : at + 4], "big")
        chunks.append((raw[at + 4 : at + 8], raw[at + 8 : end]))
        at = end + 4
    i, kind = rng.randrange(len(chunks)), rng.randrange(5)
    name, content = chunks[i]
    if name == b"IHDR" and kind < 3:
        sizes = (rng.choice((0, 1, 4, 5, 60_000, 2**31 - 1)) for _ in range(2))
        depth = rng.choice(((8, 0), (16, 0), (8, 2), (1, 3), (8, 6), (9, 9)))
        chunks[i] = name, struct.pack(">II", *sizes) + bytes([*depth, 0, 0, 0])
    elif name == b"IDAT" and kind == 0:
        chunks[i] = name, zlib.compress(b"\0" * rng.choice((1, 10**6, 10**8)), 9)
    elif kind == 3:
        del chunks[i]
    elif kind == 4:
        other = rng.choice((b"tEXt", b"zTXt", b"iCCP", b"PLTE", b"acTL", b"eXIf"))
        chunks.insert(i, (other, b"a\0\0" + zlib.compress(b"\0" * 10**6)))
    else:
        chunks[i] = name, changed_bytes(rng, content)
    return raw[:8] + b"".join(
        struct.pack(">I", len(content)) + name + content
        + struct.pack(">I", zlib.crc32(name + content))
        for name, content in chunks
    )  # fmt: skip


# --- the valid files


def trained(name, resume=None):
    """Train on a table as the checkpoint in the folder was, or resume that."""
    import xpnn

    data = xpnn.datasets.load(f"{name}.csv")
    last = xpnn.Dense(len(set(data.y.tolist())))
    elu = xpnn.Activation("elu", alpha=0.5)
    model = xpnn.Sequential(xpnn.Dense(5), xpnn.BatchNorm(), elu, xpnn.Dropout(0.25), last)
    callbacks = [xpnn.EarlyStopping("test_loss", patience=9)]
    if resume is None:
        callbacks += [xpnn.Checkpoint(f"{name}.ckpt")]
        callbacks += [xpnn.CSVLogger(f"{name}.log.csv", hashes=True)]
    xpnn.fit(
        model, data, validation=0.2, epochs=3 if resume is None else 4, batch_size=10, seed=1,
        normalizer="standard", loss=xpnn.Flooding(xpnn.CrossEntropy(), b=0.01), metrics="f1",
        resume=resume, callbacks=callbacks, verbose=False,
    )  # fmt: skip
    return model


def write_seeds():
    """Write the valid files into the working folder."""
    import numpy as np
    from PIL import Image

    import xpnn
    import xpnn.study

    rng = np.random.RandomState(0)
    x, y = rng.randn(60, 4), rng.randint(0, 3, 60)
    rows = [[*map(repr, row.tolist()), "abc"[k]] for row, k in zip(x, y, strict=True)]
    texts = [
        [rows[i][0], "uvw"[i % 3], "" if i % 7 == 3 else str(i), "ab"[i % 2]] for i in range(60)
    ]
    for name, names, lines in (
        ("rows", "pqrs", rows),
        ("few", "pqrs", rows[:6]),
        ("texts", ["p", "town", "age"], texts),
    ):
        content = "\n".join(",".join(line) for line in [[*names, "kind"], *lines, []])
        Path(f"{name}.csv").write_text(content)
        Path(f"{name}.csv.gz").write_bytes(gzip.compress(content.encode(), mtime=0))
    for name in ("rows", "texts"):
        xpnn.save(trained(name), f"{name}.safetensors")
        Path(f"{name}.ckpt.previous").unlink()
    Path("grid.toml").write_text(
        'hidden = "4"\nepochs = 2\nactivation = ["relu", "h_swish:n=5"]\noptimizer = "sgd:lr=0.1"\n'
        '[data]\npath = "rows.csv"\nvalidation = 0.2\ntarget = "kind"\n'
    )
    Path("experiments.toml").write_text(
        'title = "Two"\ndata = "rows.csv"\nepochs = 1\n[[experiment]]\nname = "one"\n'
        '[[experiment.table]]\ntitle = "A table"\n'
        'rows = [{ hidden = "3" }, { hidden = "4", seed = 3 }]\n'
        '[[experiment.figure]]\nruns = [{ hidden = "3", label = "three" }]\n'
        "[[repeat]]\nreproducible = true\n"
    )
    xpnn.study.run("grid.toml", out="runs", jobs=1, progress=False)
    for path in Path("runs").iterdir():
        if path.suffix != ".json":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    np.save("x.npy", x)
    np.save("y.npy", y)
    np.savez_compressed("data.npz", x=x, y=np.array(list("abc"))[y])
    pictures = rng.randint(0, 256, (12, 5, 4)).astype(np.uint8)
    for folder in ("idx", "png/a", "png/b", "jpeg/a", "jpeg/b"):
        Path(folder).mkdir(parents=True)
    for kind, array in (("images-idx3", pictures), ("labels-idx1", np.arange(12) % 3)):
        shape = b"".join(n.to_bytes(4, "big") for n in array.shape)
        raw = bytes([0, 0, 8, array.ndim]) + shape + array.astype(np.uint8).tobytes()
        Path(f"idx/train-{kind}-ubyte").write_bytes(raw)
    for i, pixels in enumerate(pictures[:4]):
        for kind in ("png", "jpeg"):
            Image.fromarray(pixels).save(f"{kind}/{'ab'[i % 2]}/{i}.{kind}")


# --- formats and commands


def reading(path):
    """Return the commands that read data."""
    return [
        f"train {path} --hidden 3 --epochs 1 --quiet --validation 0.2",
        f"train {path} --hidden 3 --epochs 1",
        f"predict MODEL {path} --proba --out out.csv",
        f"evaluate MODEL {path} --json",
    ]


# the files of a format, the change, and the commands that read the changed one, PATH
FORMATS = {
    "model": (["rows.safetensors", "texts.safetensors"], safetensors("xpnn"), [
        "show PATH",
        "predict PATH few.csv --proba --out out.csv",
        "predict PATH texts.csv",
        "evaluate PATH texts.csv --metrics f1",
        "train rows.csv --from PATH --epochs 1 --quiet",
        "export PATH m.onnx",
    ]),
    "checkpoint": (["rows.ckpt"], safetensors("checkpoint"), ["resume PATH rows"]),
    "study": (["runs/study.json"], json_file, ["study report runs"]),
    "result": (["runs/*-*.json"], json_file, ["study report runs"]),
    "log": (["rows.log.csv"], text, ["read_log PATH", "plot history PATH --out p.png"]),
    "npy": (["x.npy"], npy, ["train x.npy,y.npy --epochs 1", "predict rows.safetensors x.npy"]),
    "npz": (["data.npz"], npz, reading("PATH")),
    "gzip": (["few.csv.gz", "texts.csv.gz"], gzipped, reading("PATH")),
    "csv": (["few.csv", "texts.csv"], text, reading("PATH")),
    "png": (["png/a/0.png"], png, [*reading("png")[:2], "predict rows.safetensors PATH"]),
    "jpeg": (["jpeg/a/0.jpeg"], changed_bytes, reading("jpeg")[:2]),
    "idx": (["idx/*"], idx, reading("idx")[:2]),
    "toml": (["grid.toml", "experiments.toml"], toml, ["study list PATH"]),
}  # fmt: skip

# commands whose arguments are changed
COMMANDS = [
    "train rows.csv --hidden 4,3 --epochs 1 --activation h_swish:n=5 --optimizer sgd:lr=0.1"
    " --validation 0.2 --target kind --class-weight balanced --schedule cosine --batch-size 16"
    " --seed 3 --normalize standard --dropout 0.2 --metrics f1 --log l.csv --plot p.png",
    "train rows.csv --resume rows.ckpt --digits all --epochs 2 --warmup 1 --save m.safetensors",
    "train texts.csv --encode town=ordinal --missing age=30 --epochs 1 --patience 2"
    " --monitor test_loss --min-delta 0.1 --validation 0.3 --flood 0.1 --checkpoint c.ckpt",
    "show rows.safetensors",
    "evaluate rows.safetensors rows.csv --metrics f1,accuracy --held-out --header yes --json",
    "predict rows.safetensors few.csv --proba --dtype float64 --max-bytes 100000",
    "plot history rows.log.csv --out h.png",
    "plot activations relu,elu:alpha=2 --range -4,4 --out a.png",
    "plot confusion rows.safetensors rows.csv --out c.png",
    "plot errors rows.safetensors idx --count 5 --out e.png",
    "export rows.safetensors m.onnx --dtype float32",
    "study list grid.toml",
    "study report runs",
    "verify rows.safetensors rows.csv --backends numpy,strict --dtype float32",
    "backends",
]


def options_of(argv):
    """Return the options of a command."""
    from xpnn.cli import _parser

    parser = _parser()
    for word in argv:
        kinds = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
        if kinds and word in kinds[0].choices:
            parser = kinds[0].choices[word]
    # published runs take a minute; tracebacks are asked for
    left_out = {"--canonical", "--traceback"}
    return [name for a in parser._actions for name in a.option_strings if name not in left_out]


def changed_arguments(rng, argv):
    """Return a command with a few arguments changed, left out, repeated, swapped or added."""
    argv = list(argv)
    pool = [word for command in COMMANDS for word in command.split()[1:]]
    pairs = list(itertools.pairwise(pool))
    for _ in range(rng.choice((1, 1, 2, 3))):
        at, other, kind = rng.randrange(len(argv)), rng.randrange(len(argv)), rng.randrange(9)
        known = options_of(argv)
        if kind < 3:
            # one that the command knows, with a value of its own or another one
            pair = rng.choice([p for p in pairs if p[0] in known] or [(rng.choice(known), "1")])
            argv += rng.choice([pair, pair, (pair[0], rng.choice(pool)), (rng.choice(known),)])
        elif kind == 3:
            same = [word for word in pool if is_number(word) == is_number(argv[at])]
            argv[at] = rng.choice(same)
        elif kind == 4:
            argv[at] = changed_text(rng, argv[at])
        elif kind == 5:
            argv[at] = rng.choice(TEXTS)
        elif kind == 6 and len(argv) > 1:
            del argv[at]
        elif kind == 7:
            argv[at], argv[other] = argv[other], argv[at]
        else:
            argv += [rng.choice(known), rng.choice(TEXTS)]
    argv = [word.replace("\0", "") for word in argv]
    # whoever asks for a million epochs gets them
    for i, word in enumerate(argv):
        if word.isdecimal() and "--epochs" in argv[max(i - 1, 0) : i]:
            argv[i] = word[:2]
    return argv


def prepared(name, rng):
    """Change a file in the working folder, which holds the valid ones; return the command."""
    if name == "arguments":
        return changed_arguments(rng, rng.choice(COMMANDS).split())
    patterns, change, commands = FORMATS[name]
    path = rng.choice(sorted(p for pattern in patterns for p in Path().glob(pattern)))
    raw = change(rng, path.read_bytes())
    if path.parent == Path("idx") and raw[:2] == b"\x1f\x8b":
        path.unlink()
        path = Path(f"{path}.gz")
    path.write_bytes(raw)
    model = f"{'texts' if 'texts' in path.name else 'rows'}.safetensors"
    words = rng.choice(commands).split()
    return [word.replace("PATH", str(path)).replace("MODEL", model) for word in words]


# --- cases


def clock():
    """Return the time, but for that in which the process waited for a free processor."""
    waited = Path("/proc/self/schedstat").read_text().split()[1]
    return time.monotonic() - int(waited) / 1e9


def command(argv):
    """Run a command of xpnn, or what only Python has: to resume with callbacks, or read a log."""
    import xpnn
    from xpnn.cli import main

    if argv[0] not in ("resume", "read_log"):
        return main(argv)
    try:
        xpnn.callbacks.read_log(argv[1]) if argv[0] == "read_log" else trained(argv[2], argv[1])
    except xpnn.XpnnError as error:
        print(f"xpnn: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return 0


def outcome(argv, seconds=0.0):
    """Run a command in this process; return its status, and what is wrong or None."""
    late, err, begun = [], io.StringIO(), clock()

    def alarmed(number, frame):
        left = seconds - (clock() - begun)
        if left > 0.1:
            signal.setitimer(signal.ITIMER_REAL, left)
            return
        late.append(f"took more than {seconds:g} s, in {frame.f_code.co_qualname}")
        raise TimeoutError

    signal.signal(signal.SIGALRM, alarmed)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    status = None
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(err):
            status = command(argv)
    except SystemExit as error:
        status = error.code
    except BaseException as error:
        frame = error.__traceback__
        while frame.tb_next:
            frame = frame.tb_next
        where = f"{Path(frame.tb_frame.f_code.co_filename).name}:{frame.tb_lineno}"
        return None, late[0] if late else f"{type(error).__name__}: {error} at {where}"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    return status, late[0] if late else wrong_in(status, err.getvalue())


def wrong_in(status, told):
    """Return what is wrong with an exit status and what was said on standard error, or None."""
    if "Traceback" in told:
        return f"a traceback on standard error: {told[-300:]}"
    if status not in (0, 1, 2, None):
        return f"exit status {status}: {told[-300:]}"
    if status == 2:
        lines = told.splitlines()
        if told.count("error: ") != 1 or not all(line.startswith("xpnn") for line in lines):
            return f"{len(lines)} lines for an error: {told[-400:]!r}"
        if "out of memory" in told:
            return f"ran out of memory: {told!r:.300}"
    return None


@contextlib.contextmanager
def limited(size):
    """Allow the process this many bytes of memory within a ``with`` block; yield its peak."""
    peak = []
    # the most that the process has had is forgotten
    Path("/proc/self/clear_refs").write_text("5")
    resource.setrlimit(resource.RLIMIT_AS, (size, resource.RLIM_INFINITY))
    try:
        yield peak
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        status = Path("/proc/self/status").read_text()
        peak.append(int(status.split("VmHWM:")[1].split()[0]) // 1024)


class Few(importlib.machinery.PathFinder):
    """Finds all modules but libraries that take more memory than is allowed."""

    @classmethod
    def find_spec(cls, name, path=None, target=None):
        heavy = name in ("torch", "jax", "cupy", "distributed")
        return None if heavy else super().find_spec(name, path, target)


def child(pipe, source, cases, options):
    """Do cases one after the other, and tell of each one before and after it."""
    os.environ["MPLBACKEND"] = "Agg"
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    devnull = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(devnull, stream)
    sys.meta_path[:] = [Few if finder is Few.__base__ else finder for finder in sys.meta_path]
    import matplotlib.pyplot  # noqa: F401

    import xpnn.cli  # noqa: F401

    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    for name, number in cases:
        with tempfile.TemporaryDirectory() as folder:
            work = tempfile.tempdir = str(Path(folder, "work"))
            shutil.copytree(source, work)
            os.chdir(work)
            argv = prepared(name, random.Random(f"{options.seed} {name} {number}"))
            pipe.send(argv)
            begun = clock()
            with limited(used + options.megabytes * 2**20) as peak:
                status, wrong = outcome(argv, options.seconds)
            if wrong and options.keep:
                shutil.copytree(work, options.keep / f"{name}-{number}", dirs_exist_ok=True)
            pipe.send((status, wrong, clock() - begun, *peak))
            tempfile.tempdir = None
            os.chdir("/")


def fuzzed(source, cases, options):
    """Yield each case with its command, its status, what is wrong, seconds and MiB."""
    context = multiprocessing.get_context("spawn")
    cases = list(cases)
    while cases:
        ours, theirs = context.Pipe(duplex=False)
        batch = cases[: options.batch]
        arguments = (theirs, source, batch, options)
        process = context.Process(target=child, args=arguments, daemon=True)
        process.start()
        theirs.close()
        for case in batch:
            cases.pop(0)
            argv = []
            try:
                argv = received(ours, options)
                yield case, argv, *received(ours, options)
            except (EOFError, TimeoutError) as error:
                if isinstance(error, TimeoutError):
                    process.kill()
                process.join()
                ended = f"the process ended with {process.exitcode}"
                yield case, argv, None, str(error) or ended, 0.0, 0
                break
        process.join()


def received(pipe, options):
    """Return what a process tells; the first message waits for the libraries."""
    # no alarm ends what holds the interpreter; others may be using the machine
    if not pipe.poll(options.seconds * 30):
        raise TimeoutError("hangs")
    return pipe.recv()


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--count", type=int, default=2000, help="cases of each format")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", help=f"of {', '.join((*FORMATS, 'arguments'))}")
    parser.add_argument("--megabytes", type=int, default=1536, help="memory beyond the libraries'")
    parser.add_argument("--seconds", type=float, default=10.0, help="the most that a case may take")
    parser.add_argument("--batch", type=int, default=200, help="cases in a process")
    parser.add_argument("--keep", type=Path, help="where the folders of failures go")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="then stop")
    options = parser.parse_args(argv)
    options.keep = options.keep and options.keep.resolve()
    names = options.only.split(",") if options.only else [*FORMATS, "arguments"]
    figures = dict.fromkeys(names, (0, 0, 0, 0.0, 0))
    end = time.monotonic() + 60 * options.minutes
    with tempfile.TemporaryDirectory() as source:
        with contextlib.chdir(source):
            write_seeds()
        # in turn, so that each format has had as many when it stops
        cases = [(name, number) for number in range(options.count) for name in names]
        for (name, number), argv, status, wrong, taken, peak in fuzzed(source, cases, options):
            count, failures, refused, longest, most = figures[name]
            figures[name] = (
                count + 1, failures + bool(wrong), refused + (status == 2),
                max(longest, taken), max(most, peak),
            )  # fmt: skip
            if wrong:
                print(f"{name} {number}: {argv}: {wrong}"[:700], flush=True)
            if name == names[-1] and time.monotonic() > end:
                break
    print("format      cases  failures  refused  longest  peak memory")
    for name, found in figures.items():
        print("{:10s} {:6d} {:9d} {:8d} {:6.1f} s {:8d} MiB".format(name, *found))
    return int(any(failures for _, failures, *_ in figures.values()))


if __name__ == "__main__":
    sys.exit(main())
