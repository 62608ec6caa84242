"""Every field of every file of ours, changed below the hash: the message is about the field."""

import copy
import json
import re
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file

import xpnn
import xpnn.study
from xpnn._core.files import sealed
from xpnn.study.results import _digest
from xpnn.training import checkpoint

VALUES = [None, -1, 2**64, "", [[]], {"name": "flooding"}]

# the words of Python's own errors
PYTHON = re.compile(r"\w(Error|Exception)\b|__|NoneType|keyword|positional|unhashable|subscript")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a file of each kind, whose fields are all there."""
    folder = tmp_path_factory.mktemp("sound")
    rng = np.random.RandomState(0)
    cells = np.array([[a, rng.choice(["x", "y"])] for a in rng.randn(40)], object)
    data = xpnn.datasets.NamedDataset(
        cells, rng.choice(["p", "q"], 40), feature_names=("a", "town"), target_name="y"
    )
    model = xpnn.Sequential(
        xpnn.Dense(2), xpnn.BatchNorm(), xpnn.Activation("elu", alpha=2), xpnn.Dropout(0.2),
        xpnn.Dense(2),
    )  # fmt: skip
    callbacks = [xpnn.Checkpoint(folder / "k"), xpnn.EarlyStopping(patience=3)]
    options = {"loss": xpnn.Flooding(xpnn.CrossEntropy(), 0.1), "schedule": "cosine", "seed": 0}
    xpnn.fit(model, data, validation=0.2, epochs=1, metrics="f1", callbacks=callbacks, **options)
    xpnn.save(model, folder / "m")
    rows = "".join(f"{a:.3f},{b:.3f},{int(a > b)}\n" for a, b in rng.randn(30, 2))
    (folder / "d.csv").write_text(f"a,b,label\n{rows}")
    (folder / "s.toml").write_text(
        f"data = '{folder}/d.csv'\nepochs = 1\nvalidation = 0.2\nmetrics = 'f1'\n"
    )
    xpnn.study.run(folder / "s.toml", out=folder / "out", jobs=1, progress=False)
    return folder


def places(tree, path=()):
    """Yield the path of each value in a nest; of a log, only of its first values."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree)
    for key, value in items:
        if key not in (1, 2, 3) or "log" not in path:
            yield (*path, key)
            if isinstance(value, dict | list):
                yield from places(value, (*path, key))


def changed(tree):
    """Yield copies of a nest with one value that is missing, replaced, or has one more in it."""
    for path in places(tree):
        for value in (*VALUES, "missing", "more"):
            new = copy.deepcopy(tree)
            owner = new
            for key in path[:-1]:
                owner = owner[key]
            if value == "missing":
                del owner[path[-1]]
            elif value != "more":
                owner[path[-1]] = value
            elif isinstance(owner[path[-1]], dict):
                owner[path[-1]]["nonsense"] = 1
            else:
                continue
            yield path, value, new


def safetensors(path, key):
    with safe_open(path, "numpy") as file:
        content = json.loads(file.metadata()[key])
    arrays = load_file(path)
    return content, lambda new: sealed(arrays, {key: json.dumps(new)})


def opened(folder, kind):
    """Return a file, what it holds, what makes bytes of it again, and what reads it."""
    if kind == "model":
        return folder / "x", *safetensors(folder / "m", "xpnn"), xpnn.load
    if kind == "early model":
        content, raw = safetensors(folder / "m", "xpnn")
        layers = [{"layer": own["name"], **own["parameters"]} for own in content["layers"]]
        loss = {"name": "flooding", "b": 0.1, "loss": {"name": "cross_entropy"}}
        content |= {"format": 3, "layers": layers, "loss": loss}
        return folder / "x", content, raw, xpnn.load
    if kind == "checkpoint":
        return folder / "x", *safetensors(folder / "k", "checkpoint"), checkpoint.read
    if kind == "result":
        (path,) = (own for own in (folder / "out").glob("*.json") if own.name != "study.json")
        content = json.loads(path.read_bytes())
        del content["sha256"]

        def written(new):
            return json.dumps({**new, "sha256": _digest(new)}).encode()

        return folder / "x.json", content, written, xpnn.study.read_result
    path = folder / "out" / "study.json"
    content = json.loads(path.read_bytes())
    return path, content, lambda new: json.dumps(new).encode(), lambda own: read_study(own)


def read_study(path):
    return xpnn.study.read_study(path.parent)


@pytest.mark.parametrize("kind", ["model", "early model", "checkpoint", "result", "study"])
def test_the_message_names_the_file_the_field_and_what_it_must_be(kind, folder):
    path, content, raw, read = opened(folder, kind)
    if kind == "model":
        path.write_bytes(raw(content))
        read(path)
    refused = 0
    for place, value, new in changed(content):
        path.write_bytes(raw(new))
        try:
            with np.errstate(all="ignore"):
                read(path)
        except xpnn.XpnnError as error:
            told, refused = str(error), refused + 1
            where = f"{kind}: {place} = {value!r}: {told[:500]}"
            assert str(path) in told, where
            assert not PYTHON.search(told.replace(str(path), "")), where
            said = r"must |unknown |needs |not TOML: |is newer than|has format|holds a run that"
            assert re.search(said, told), where
            assert told.count(str(path)) == 1, where
    assert refused > len(VALUES) * len(content)


def test_a_file_whose_name_is_too_long_is_not_there(tmp_path):
    (tmp_path / "s.toml").write_text(f"data = '{'n' * 5000}'\nepochs = 1\n")
    (job,) = xpnn.study.load_study(tmp_path / "s.toml").jobs
    assert not job.source.is_table
    assert not Path(tmp_path / "n").exists()
