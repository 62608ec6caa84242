import json
import os
import stat

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

import xpnn
from tests.helpers import BACKEND_NAMES, flipped, open_backend, shortened
from xpnn._core.files import SEAL, sealed
from xpnn._core.tree import flatten
from xpnn.activations import ACTIVATIONS
from xpnn.saving import FORMAT, describe

RNG = np.random.RandomState(0)
X, Y = RNG.standard_normal((40, 5)), RNG.randint(0, 3, 40)


def trained(y=Y, loss=None, backend="numpy", outputs=3, activation="tanhexp", **parameters):
    model = xpnn.Sequential(
        xpnn.Dense(7),
        xpnn.Activation(activation, **parameters),
        xpnn.Dense(outputs, weight="glorot_uniform", bias=False),
    )
    xpnn.fit(model, (X, y), loss=loss, epochs=2, batch_size=8, seed=3, backend=backend)
    return model


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.safetensors"


def rewrite(path, change):
    """Save a model to `path`, after `change(arrays, description)`, or with that text instead."""
    xpnn.save(trained(), path)
    with safe_open(path, framework="numpy") as file:
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        description = json.loads(file.metadata()["xpnn"])
    if not isinstance(change, str):
        change(arrays, description)
        change = json.dumps(description)
    path.write_bytes(sealed(arrays, {"xpnn": change}))


@pytest.mark.parametrize("there", BACKEND_NAMES)
@pytest.mark.parametrize("here", BACKEND_NAMES)
def test_a_model_moves_between_backends(here, there, dtype, path):
    source, target = open_backend(here, dtype), open_backend(there, dtype)
    model = trained(backend=source)
    xpnn.save(model, path)
    device = {"strict": "device1"}.get(there, os.environ.get("XPNN_DEVICE"))
    loaded = xpnn.load(path, backend=there, device=None if there == "numpy" else device)

    assert loaded.backend.name == there
    assert loaded.backend.dtype_name == dtype
    assert all(target.owns(w) for w in flatten(loaded.parameters).values())
    assert loaded.sha256() == model.sha256()
    assert repr(loaded) == repr(model)
    np.testing.assert_array_equal(xpnn.predict(loaded, X), xpnn.predict(model, X), strict=True)
    np.testing.assert_allclose(
        xpnn.predict_proba(loaded, X),
        xpnn.predict_proba(model, X),
        rtol={"float32": 1e-5, "float64": 1e-13}[dtype],
        atol=0,
    )


def test_a_model_loads_in_another_dtype(path):
    xpnn.save(trained(), path)
    assert xpnn.load(path).backend.dtype_name == "float32"
    loaded = xpnn.load(path, dtype="float64")
    for w, single in zip(
        flatten(loaded.parameters).values(),
        flatten(xpnn.load(path).parameters).values(),
        strict=True,
    ):
        np.testing.assert_array_equal(w, single.astype(np.float64), strict=True)


@pytest.mark.parametrize(
    ("y", "loss", "classes"),
    [
        (Y, xpnn.CrossEntropy(), 3),
        (Y, xpnn.Flooding(xpnn.CrossEntropy(), b=0.125), 3),
        (np.eye(3)[Y], xpnn.CrossEntropy(), None),
        (X[:, :3], xpnn.MeanSquaredError(), None),
        (X[:, :3], xpnn.Flooding(xpnn.MeanSquaredError(), b=0.5), None),
        (np.eye(3)[Y], xpnn.BinaryCrossEntropy(), None),
    ],
    ids=repr,
)
def test_loss_and_classes_come_back(y, loss, classes, path):
    model = trained(y, loss)
    xpnn.save(model, path)
    loaded = xpnn.load(path)
    assert (loaded.task.loss, loaded.task.classes, loaded.inputs) == (loss, classes, 5)
    np.testing.assert_array_equal(xpnn.predict(loaded, X), xpnn.predict(model, X), strict=True)
    assert xpnn.evaluate(loaded, (X, y)) == pytest.approx(
        xpnn.evaluate(model, (X, y)), rel=0, abs=0, nan_ok=True
    )


LABELS = np.array(["no", "no, or yes", "été"])
TABLE = xpnn.datasets.NamedDataset(
    X, LABELS[Y], feature_names=tuple("abcde"), target_name="answer", rows=np.arange(40)
)


def complete(**options):
    """A model with everything that a file can hold."""
    model = xpnn.Sequential(xpnn.Dense(7), xpnn.Activation("relu"), xpnn.Dense(3))
    options = {"normalizer": "standard", "epochs": 2, "batch_size": 8, "seed": 3, **options}
    xpnn.fit(model, TABLE, **options)
    return model


@pytest.mark.parametrize("there", BACKEND_NAMES)
def test_all_that_a_model_knows_comes_back(there, path):
    open_backend(there)
    model = complete()
    xpnn.save(model, path)
    loaded = xpnn.load(path, backend=there)
    np.testing.assert_array_equal(loaded.task.labels, LABELS, strict=True)
    assert (loaded.task.feature_names, loaded.task.target_name) == (tuple("abcde"), "answer")
    assert type(loaded.task.normalizer) is xpnn.StandardScaler
    np.testing.assert_array_equal(
        loaded.task.normalizer.offset, model.task.normalizer.offset, strict=True
    )
    np.testing.assert_array_equal(
        loaded.task.normalizer.scale, model.task.normalizer.scale, strict=True
    )
    assert loaded.task.target_normalizer is None
    assert repr(list(loaded.history)) == repr(list(model.history))
    assert loaded.history.settings == model.history.settings
    np.testing.assert_array_equal(xpnn.predict(loaded, X), xpnn.predict(model, X), strict=True)


def test_integer_labels_and_target_normalizers_come_back(path):
    model = xpnn.Sequential(xpnn.Dense(3))
    xpnn.fit(model, (X, Y * 10), labels=[20, 0, 10], epochs=1, seed=0)
    xpnn.save(model, path)
    np.testing.assert_array_equal(xpnn.load(path).task.labels, np.array([20, 0, 10]), strict=True)

    model = xpnn.Sequential(xpnn.Dense(1))
    loss = xpnn.MeanSquaredError()
    xpnn.fit(model, (X, X[:, 0]), loss=loss, target_normalizer="minmax", epochs=1, seed=0)
    xpnn.save(model, path)
    np.testing.assert_array_equal(xpnn.predict(xpnn.load(path), X), xpnn.predict(model, X))


def test_a_file_says_what_made_it(path):
    xpnn.save(complete(backend="strict"), path)
    about = describe(path)
    assert about["xpnn"] == xpnn.__version__
    assert about["versions"]["numpy"] == np.__version__
    assert set(about["versions"]) == {"numpy", "strict"}


def test_the_metadata_are_strict_json(path):
    """Test figures are NaN without a validation set, and JSON has no NaN."""
    xpnn.save(complete(), path)
    with safe_open(path, framework="numpy") as file:
        text = file.metadata()["xpnn"]

    def refuse(name):
        raise AssertionError(name)

    assert json.loads(text, parse_constant=refuse)["history"]["test_loss"] == [None] * 3


def test_a_file_of_the_first_format_loads(path):
    """As xpnn wrote it before there were labels, normalizers, histories and the hash."""
    weight, bias = np.eye(2, dtype=np.float32), np.array([0.5, 0.0], np.float32)
    description = (
        '{"format": 1, "xpnn": "0.1.0", "inputs": 2, "dtype": "float32", "classes": 2, "loss": '
        '{"name": "cross_entropy", "floor": 1e-07}, "layers": [{"layer": "Dense", "units": 2, '
        '"weight": "he_normal"}]}'
    )
    save_file({"0.weight": weight, "0.bias": bias}, path, {"xpnn": description})
    model = xpnn.load(path)
    assert (model.task.labels, model.task.normalizer, model.history) == (None, None, None)
    assert xpnn.predict(model, [[0.0, 0.25], [0.0, 0.75]]).tolist() == [0, 1]


@pytest.mark.parametrize("version", [1, 2])
def test_a_file_of_an_older_format_is_not_held_to_a_hash(version, path):
    def older(arrays, description):
        description["format"] = version
        description["loss"] = {"name": "cross_entropy", **description["loss"]["parameters"]}
        for i, layer in enumerate(description["layers"]):
            settings = layer["parameters"]
            settings |= settings.pop("parameters", {})
            description["layers"][i] = {"layer": layer["name"], **settings}

    rewrite(path, older)
    with safe_open(path, framework="numpy") as file:
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        text = file.metadata()["xpnn"]
    save_file(arrays, path, {"xpnn": text, "sha256": "of another kind"})
    assert xpnn.load(path).sha256() == trained().sha256()


@pytest.fixture
def tiny(path):
    """The smallest model: its bytes, and a path that has it."""
    model = xpnn.Sequential(xpnn.Dense(1))
    loss = xpnn.MeanSquaredError()
    xpnn.fit(model, (X[:2, :1], X[:2, 0]), loss=loss, epochs=0, seed=1, normalizer="standard")
    xpnn.save(model, path)
    return path.read_bytes(), path


UNREAD = r"model\.safetensors( is damaged|: it is no safetensors file|.*xpnn's, or a damaged one)"


def test_a_flipped_bit_anywhere(tiny):
    """All bits of the length, of the metadata's names and of the hash, and 2000 others."""
    raw, path = tiny
    at = raw.index(SEAL.encode())
    bits = {*range(512), *range(8 * at, 8 * (at + 80)), *RNG.randint(0, 8 * len(raw), 2000)}
    for bit in bits:
        path.write_bytes(flipped(raw, bit))
        with pytest.raises(xpnn.DataError, match=UNREAD) as caught:
            xpnn.load(path)
        assert "\n" not in str(caught.value)
    path.write_bytes(raw)
    assert xpnn.load(path).inputs == 1


def test_a_file_that_is_cut_off_anywhere(tiny):
    raw, path = tiny
    for part in shortened(raw):
        path.write_bytes(part)
        with pytest.raises(xpnn.DataError, match=UNREAD):
            xpnn.load(path)
    path.write_bytes(raw + b"\0")
    with pytest.raises(xpnn.DataError, match="is damaged"):
        xpnn.load(path)


def test_parameters_of_layers_come_back(path):
    xpnn.save(trained(activation="h_swish", n=4.5), path)
    first, second, third = xpnn.load(path).layers
    assert second.parameters == {"n": 4.5}
    assert first.shapes(5) == {"weight": (5, 7), "bias": (7,)}
    assert third.shapes(7) == {"weight": (7, 3)}
    assert third.config() == {"units": 3, "weight": "glorot_uniform", "bias": False}


def test_a_loaded_model_trains_on(path):
    model = trained()
    xpnn.save(model, path)
    loaded = xpnn.load(path)
    for one in (model, loaded):
        xpnn.fit(one, (X, Y), epochs=1, batch_size=8, seed=4)
    assert loaded.sha256() == model.sha256()


def test_a_model_without_parameters_is_refused(path):
    with pytest.raises(xpnn.ArgumentError, match="no parameters yet"):
        xpnn.save(xpnn.Sequential(xpnn.Dense(2)), path)
    assert not path.exists()


def test_a_failure_keeps_the_old_file(path, monkeypatch):
    xpnn.save(trained(), path)
    before = path.read_bytes()

    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    for error in (OSError, xpnn.errors.WriteError):
        with pytest.raises(error, match=r"can't write model .*: No space left"):
            xpnn.save(trained(activation="relu"), path)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_the_mode_follows_the_umask(umask, mode, path):
    before = os.umask(umask)
    try:
        xpnn.save(trained(), path)
        assert stat.S_IMODE(path.stat().st_mode) == mode
        assert os.umask(umask) == umask
        path.chmod(0o640)
        xpnn.save(trained(), path)
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
    finally:
        os.umask(before)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda whole: None, "No such file"),
        (lambda whole: b"", "can't read a model"),
        (
            lambda whole: whole[: len(whole) // 2],
            "can't read a model from .*: it is no safetensors",
        ),
        (lambda whole: whole[:-1], "is damaged: its bytes don't have the SHA-256"),
        (lambda whole: whole.replace(b'"file_sha256"', b'"file_sha257"'), "must hold its SHA-256"),
        (lambda whole: b"PK\x03\x04" + whole, "can't read a model"),
    ],
    ids=["missing", "empty", "half", "one byte short", "no hash", "another format"],
)
def test_a_damaged_file(content, message, path):
    xpnn.save(trained(), path)
    content = content(path.read_bytes())
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(xpnn.DataError, match=message) as caught:
        xpnn.load(path)
    assert str(path) in str(caught.value)


def test_a_folder_is_no_model(tmp_path):
    with pytest.raises(xpnn.DataError, match="can't read a model"):
        xpnn.load(tmp_path)


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}])
def test_safetensors_of_others(metadata, path):
    save_file({"0.weight": np.ones((2, 2))}, path, metadata)
    with pytest.raises(xpnn.DataError, match="not one of xpnn's"):
        xpnn.load(path)


def standart(arrays, description):
    description["normalizer"] = "standart"
    arrays.update({"normalizer.offset": np.zeros(5), "normalizer.scale": np.ones(5)})


def newer(arrays, description):
    description.update(format=FORMAT + 1, xpnn="99.0")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (newer, r"written by xpnn 99\.0, whose format \d+ is newer"),
        (lambda arrays, d: arrays.pop("0.bias"), r"array [\w.]+ must be"),
        (lambda arrays, d: arrays.update({"1.weight": np.ones(3)}), r"array [\w.]+ must be"),
        (lambda arrays, d: arrays.update({"0.bias": np.ones(6)}), r"array [\w.]+ must be"),
        (lambda arrays, d: d.update(inputs=6), r"array [\w.]+ must be"),
        ("{", "damaged metadata"),
        ("[]", "damaged metadata"),
        (lambda arrays, d: d.pop("format"), "damaged metadata"),
        (lambda arrays, d: d.update(format=0), "format must be a number from 1 to"),
        (lambda arrays, d: d.update(format=True), "format must be a number from 1 to"),
        (lambda arrays, d: d.update(format="2"), "format must be a number from 1 to"),
        (lambda arrays, d: d.pop("inputs"), "damaged metadata"),
        (lambda arrays, d: d.pop("layers"), "damaged metadata"),
        (lambda arrays, d: d["layers"][0]["parameters"].update(shape=3), "damaged metadata"),
        (lambda arrays, d: d["layers"][0].pop("name"), "damaged metadata"),
        (lambda arrays, d: d["layers"].append("dense"), "damaged metadata"),
        (lambda arrays, d: d.pop("dtype"), "damaged metadata"),
        (lambda arrays, d: d.update(labels=["a"]), "damaged metadata"),
        (lambda arrays, d: d.update(image_shape=[2, 2, 1]), "damaged metadata"),
        (lambda arrays, d: d.update(labels=["a", "b"]), "damaged metadata"),
        (lambda arrays, d: d.update(normalizer="standard"), r"array [\w.]+ must be"),
        (lambda arrays, d: d["history"].pop("epoch"), "damaged metadata"),
        (lambda arrays, d: d["history"]["epoch"].pop(), "damaged metadata"),
        (lambda arrays, d: d.update(inputs=-5), "inputs must be a whole number >= 1, got -5"),
        (lambda arrays, d: d.update(inputs=10**15), r"array [\w.]+ must be"),
        (lambda arrays, d: d.update(inputs=5.0), r"inputs must be a whole number >= 1, got 5\.0"),
        (lambda arrays, d: d.update(dtype="int8"), "dtype must be 'float32' or 'float64', got"),
        (lambda arrays, d: d.update(dtype="float64"), r"array [\w.]+ must be"),
        (lambda arrays, d: d.update(classes=4), "classes must be 3, as the network's outputs are"),
        (lambda arrays, d: d.update(labels=["a", "b", 3]), "labels must be texts, or integers"),
        (lambda arrays, d: d.update(labels=[1, 2, 2**63]), "labels must be texts, or integers"),
        (lambda arrays, d: d.update(labels=["a", "b", "b"]), "labels must be 3 different"),
        (lambda arrays, d: d.update(layers=[]), r"layers must be a list of layers, got \[\]"),
        (lambda arrays, d: d["layers"][0].update(parameters=3), r"layers\[0\].parameters must be"),
        (
            lambda arrays, d: d["layers"][0]["parameters"].update(units="7"),
            r"layers\[0\]\.parameters: units must be a whole number >= 1, got '7'",
        ),
        (
            lambda arrays, d: d["layers"][0]["parameters"].update(units=10**13),
            r"array [\w.]+ must be",
        ),
        (lambda arrays, d: d.update(feature_names=["a"]), "feature_names must be the names of 5"),
        (lambda arrays, d: d.update(target_name=3), "target_name must be text or none, got 3"),
        (lambda arrays, d: d.update(image_shape=[5, 1]), "image_shape must be a list of 3 values"),
        (lambda arrays, d: d.update(share={"fraction": 2}), "share.fraction must be a number > 0"),
        (lambda arrays, d: d["history"]["epoch"].reverse(), "history.epoch must be the epochs in"),
        (lambda arrays, d: d["history"]["seconds"].__setitem__(0, "1"), "history.seconds.0. must"),
        (lambda arrays, d: d.update(settings=[]), "settings must be a table .* or none, got"),
        (lambda arrays, d: d.update(loss=[]), "loss must be a table .* or none, got"),
        (lambda arrays, d: d["layers"][1]["parameters"].update(name=[]), "name must be text, got"),
        (lambda arrays, d: d.pop("xpnn"), "xpnn must be text, and is missing"),
        ("[" * 5000 + "]" * 5000, "its JSON is nested too deeply"),
    ],
)
def test_wrong_metadata(change, message, path):
    rewrite(path, change)
    with pytest.raises(xpnn.DataError, match=message) as caught:
        xpnn.load(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda arrays, d: d["layers"][0].update(name="Dence"), "needs the layer 'Dence'"),
        (
            lambda arrays, d: d["loss"].update(name="cross_entropi"),
            "needs the loss 'cross_entropi'",
        ),
        (
            lambda arrays, d: d["layers"][1]["parameters"].update(name="tanhex"),
            "needs the activation 'tanhex'",
        ),
        (standart, "needs the normalizer 'standart'"),
    ],
)
def test_what_is_not_registered_here(change, message, path):
    rewrite(path, change)
    how = r", which isn't xpnn's own; .*load_parts\('FILE.py'\), or --parts FILE.py"
    with pytest.raises(xpnn.ArgumentError, match=message + how):
        xpnn.load(path)


def test_a_users_own_activation_must_be_registered(path, kept):
    @xpnn.activations.register
    def doubled(u, *, xp):
        return 2 * u, lambda dz: 2 * dz

    model = trained(activation="doubled")
    xpnn.save(model, path)
    assert xpnn.load(path).sha256() == model.sha256()
    del ACTIVATIONS._parts["doubled"]
    with pytest.raises(xpnn.ArgumentError, match="needs the activation 'doubled'"):
        xpnn.load(path)


class Scaled(xpnn.Layer):
    """A layer whose settings have the names that a file uses itself."""

    kind = "scaled"

    def __init__(self, layer, name="x", parameters=(1.0,)):
        self.layer, self.name, self.parameters = layer, name, list(parameters)

    def forward(self, parameters, x, *, xp):
        return x * self.layer, lambda dy, input_gradient=True: (dy * self.layer, {})


def test_a_setting_may_have_any_name(path, kept):
    xpnn.layers.register(Scaled)

    @xpnn.activations.register
    def named(u, *, name=2.0, parameters=1.0, xp):
        return name * parameters * u, lambda dz: name * parameters * dz

    layers = [Scaled(0.5, "y", [2.0, 3.0]), xpnn.Activation("named", name=3.0, parameters=4.0)]
    model = xpnn.Sequential(xpnn.Dense(4), *layers, xpnn.Dense(3))
    xpnn.fit(model, (X, Y), epochs=1, seed=0)
    xpnn.save(model, path)
    loaded = xpnn.load(path)
    assert repr(loaded) == repr(model)
    assert vars(loaded.layers[1]) == vars(model.layers[1])
    np.testing.assert_array_equal(xpnn.predict_proba(loaded, X), xpnn.predict_proba(model, X))


@pytest.mark.parametrize(
    ("given", "lost"),
    [
        ({"weight": np.ones((5, 3))}, "weight"),
        ({"weight": lambda rng, inputs, units: np.ones((inputs, units))}, "weight"),
        ({"bias": np.ones(3)}, "bias"),
    ],
)
def test_weights_that_were_given_are_not_drawn_anew(given, lost, path):
    model = xpnn.Sequential(xpnn.Dense(3, **given))
    xpnn.fit(model, (X, Y), epochs=1, seed=0)
    xpnn.save(model, path)
    loaded = xpnn.load(path)
    assert loaded.sha256() == model.sha256()
    xpnn.fit(loaded, (X, Y), epochs=1, seed=0)
    # the file doesn't hold them, and nothing takes their place in silence
    anew = xpnn.Sequential(*loaded.layers)
    with pytest.raises(xpnn.ArgumentError, match=f"{lost} of .* was an array or a function"):
        xpnn.fit(anew, (X, Y), epochs=1, seed=0)
    # nor after a second file
    xpnn.save(loaded, path)
    assert xpnn.load(path).layers[0].config() == model.layers[0].config()


@pytest.mark.parametrize("end", ["Infinity", "1e400", "NaN", "-8", '"8"'])
def test_a_header_with_an_offset_that_is_none(end, tmp_path):
    entry = f'{{"dtype":"F32","shape":[2],"data_offsets":[0,{end}]}}'
    header = f'{{"__metadata__":{{"xpnn":"{{}}"}},"a":{entry}}}'.encode()
    (tmp_path / "m").write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))
    with pytest.raises(xpnn.DataError, match=f"^can't read .*{tmp_path / 'm'}|damaged"):
        xpnn.load(tmp_path / "m")
