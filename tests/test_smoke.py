import numpy as np

import xpnn


def test_every_backend_learns_xor(backend):
    x = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    y = np.array([0, 1, 1, 0])
    model = xpnn.Sequential(xpnn.Dense(8), xpnn.Activation("tanh"), xpnn.Dense(2))
    history = xpnn.fit(model, (x, y), epochs=300, batch_size=3, seed=1, backend=backend)
    assert list(xpnn.predict(model, x)) == [0, 1, 1, 0]
    assert history[-1].train_loss < 0.1
