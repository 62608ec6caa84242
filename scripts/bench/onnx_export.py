"""Compare xpnn's ONNX export with the same networks traced by ndonnx, in ONNX Runtime.

    pip install '.[onnx]' onnxruntime ndonnx
    python scripts/bench/onnx_export.py

For each activation, with and without BatchNorm, the network 784-100-50-10 is exported both ways. A
line has the number of nodes, those of subgraphs included, the size of the file, and the median time
of a prediction for one row and for 10,000 rows. The exports take turns in one process. ONNX Runtime
has one thread; the time is that which the processor spent on it, whatever else the machine does.
"""

import statistics
import tempfile
import time
from pathlib import Path

import ndonnx
import numpy as np
import onnx
import onnxruntime

import xpnn
from xpnn.backends import get_backend
from xpnn.task import Task

SIZES = 100, 50, 10
ACTIVATIONS = "relu", "h_swish", "tanhexp", "mish", "gelu"
CALLS = {1: 200, 10_000: 1}  # in a round, by the number of rows
ROUNDS = 15


def network(activation, batch_norm):
    layers = []
    for units in SIZES[:-1]:
        layers += [xpnn.Dense(units)]
        layers += [xpnn.BatchNorm()] * batch_norm
        layers += [xpnn.Activation(activation)]
    model = xpnn.Sequential(*layers, xpnn.Dense(SIZES[-1]))
    backend = get_backend("numpy", dtype="float32")
    model.initialize(784, backend=backend, rng=np.random.RandomState(1))
    model.task = Task(loss=xpnn.CrossEntropy())
    return model


def by_xpnn(model, path):
    xpnn.export_onnx(model, path)


def by_ndonnx(model, path):
    arrays = [
        {name: ndonnx.asarray(array) for name, array in own.items()}
        for own in model.host_parameters()
    ]
    x = ndonnx.argument(shape=("batch", model.inputs), dtype=ndonnx.float32)
    logits, _ = model.forward(arrays, x, xp=ndonnx)
    probabilities = model.task.loss.predict(logits, xp=ndonnx)
    outputs = {"logits": logits, "probabilities": probabilities}
    onnx.save(ndonnx.build({"x": x}, outputs), path)


EXPORTS = {"xpnn": by_xpnn, "ndonnx": by_ndonnx}


def nodes(graph):
    """Return the number of a graph's nodes, those of its subgraphs included."""
    inner = (attribute.g for node in graph.node for attribute in node.attribute)
    return len(graph.node) + sum(map(nodes, inner))


def opened(path):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def measured(sessions, x, expected):
    """Return each session's median time of a prediction in microseconds."""
    times = {name: [] for name in sessions}
    for _ in range(ROUNDS):
        for name, session in sessions.items():
            start = time.thread_time()
            for _ in range(CALLS[len(x)]):
                (found,) = session.run(["probabilities"], {"x": x})
            times[name].append((time.thread_time() - start) / CALLS[len(x)] * 1e6)
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    return {name: statistics.median(taken) for name, taken in times.items()}


def main():
    x = np.random.RandomState(0).uniform(0, 1, (10_000, 784)).astype("float32")
    print("| network | export | nodes | kB | 1 row, µs | 10,000 rows, ms |")
    print("|---|---|---|---|---|---|")
    for batch_norm in (False, True):
        for activation in ACTIVATIONS:
            model = network(activation, batch_norm)
            expected = xpnn.predict_proba(model, x)
            with tempfile.TemporaryDirectory() as folder:
                paths = {name: Path(folder, f"{name}.onnx") for name in EXPORTS}
                for name, export in EXPORTS.items():
                    export(model, paths[name])
                sessions = {name: opened(path) for name, path in paths.items()}
                sizes = {name: path.stat().st_size / 1e3 for name, path in paths.items()}
                counts = {name: nodes(onnx.load(path).graph) for name, path in paths.items()}
            one, many = (measured(sessions, x[:n], expected[:n]) for n in CALLS)
            label = f"{activation}, BatchNorm" if batch_norm else activation
            for name in EXPORTS:
                print(
                    f"| {label} | {name} | {counts[name]} | {sizes[name]:.0f} "
                    f"| {one[name]:.1f} | {many[name] / 1e3:.1f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
