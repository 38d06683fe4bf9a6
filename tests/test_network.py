"""The networks: weight counts of the paper, equalities between forms, a plain-loop linear head."""

from __future__ import annotations

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")
keras = pytest.importorskip("keras")

from conftest import BIN_START, linear_reference

from spikewire import network

THRESHOLDS = [0.5, 0.6, 0.7]
RNG = np.random.default_rng(0)


def test_the_papers_weight_counts() -> None:
    """Wen et al. 2021: SO-DCNN 590,785 and MO-DCNN for ten units 5,241,994, 64 channels."""
    assert network.so_dcnn(64).count_params() == 590_785
    assert network.mo_dcnn(64, 10).count_params() == 5_241_994


def test_the_papers_networks_learn_in_two_epochs() -> None:
    """As published, 64 channels: on windows whose answer is plain the cross-entropy falls."""
    rng = np.random.default_rng(3)
    for units in (1, 2):
        keras.utils.set_random_seed(0)
        net = network.so_dcnn(64) if units == 1 else network.mo_dcnn(64, 2)
        y = rng.integers(0, 2, (256, 1, units)).astype(np.float32)
        x = rng.normal(0, 0.1, (256, 120, 64)).astype(np.float32)
        x[:, 50:70, :units] += y
        net.compile("rmsprop", keras.losses.BinaryCrossentropy(from_logits=True))
        losses = net.fit(x, y, batch_size=32, epochs=2, verbose=0).history["loss"]
        assert losses[1] < losses[0]


def sources(windows: int = 1) -> np.ndarray:
    """Bumpy signals whose peaks pass the thresholds now and then: (4, samples, 3)."""
    x = RNG.normal(0, 1, (4, 160 + 20 * windows, 3))
    smooth = np.apply_along_axis(np.convolve, 1, x, np.hanning(7) / 2, "same")
    return smooth[:, 20 : 140 + 20 * (windows - 1)].astype(np.float32)


def sigmoid(x: object) -> np.ndarray:
    return tf.sigmoid(x).numpy()


def test_linear_head_equals_a_plain_loop() -> None:
    x = sources()
    presence, position = network.linear(THRESHOLDS, BIN_START)(x)
    for k in range(len(x)):
        wanted = linear_reference(x[k], np.array(THRESHOLDS))
        np.testing.assert_allclose(sigmoid(presence)[k, 0], wanted, atol=1e-5)
        for unit in range(3):
            s = x[k, :, unit]
            tops = [s[i] if s[i] >= s[i - 10 : i + 11].max() else 0 for i in range(90, 110)]
            np.testing.assert_allclose(position[k, 0, unit], 10 * np.array(tops), rtol=1e-5)


def test_the_untrained_network_is_the_linear_filter() -> None:
    x = sources()
    for a, b in zip(network.recommended(THRESHOLDS, BIN_START)(x),
                    network.linear(THRESHOLDS, BIN_START)(x), strict=True):
        np.testing.assert_array_equal(a, b)


def trained_like(samples: int) -> keras.Model:
    """A network whose last layer is not zero, so that every part shows."""
    keras.utils.set_random_seed(1)
    net = network.recommended(THRESHOLDS, BIN_START, samples=samples)
    rng = np.random.default_rng(2)
    net.set_weights([w + rng.normal(0, 0.05, w.shape) for w in net.get_weights()])
    return net


def test_one_pass_over_a_stretch_equals_window_by_window() -> None:
    windows = 5
    x = sources(windows)
    whole, one = trained_like(x.shape[1]), trained_like(120)
    presence, position = whole(x)
    for k in range(windows):
        p, q = one(x[:, 20 * k : 20 * k + 120])
        np.testing.assert_allclose(presence[:, k], p[:, 0], atol=2e-5)
        np.testing.assert_allclose(position[:, k], q[:, 0], atol=2e-5)


def test_heads_equal_separate_convolutions() -> None:
    """A second implementation: each unit's head as plain Keras layers with the same weights."""
    net = trained_like(120)
    x = sources()
    heads, unit = net.get_layer("heads"), 1
    trunk = keras.Model(net.input, net.get_layer("d1").output)(x).numpy()
    own = x[:, 2:-2, unit].reshape(len(x), -1, 2)

    def conv(h: np.ndarray, kernel: np.ndarray) -> np.ndarray:
        k = kernel.reshape(3, h.shape[2], -1)
        return sum(h[:, i : h.shape[1] - 2 + i] @ k[i] for i in range(3))

    w = {n: getattr(heads, n).numpy()[unit] for n in ("c3", "own", "c4", "f1", "f2", "c3_bias",
                                                      "c4_bias", "f1_bias", "f2_bias")}
    h = np.maximum(conv(trunk, w["c3"]) + conv(own, w["own"]) + w["c3_bias"], 0)
    h = np.maximum(conv(h, w["c4"]) + w["c4_bias"], 0)
    h = h.reshape(len(x), 27, 2, -1).max(axis=2)
    h = np.maximum(h.reshape(len(x), -1) @ w["f1"] + w["f1_bias"][0], 0)
    out = h @ w["f2"] + w["f2_bias"][0]
    linear_p, linear_q = net.get_layer("linear")(x)
    presence, position = net(x)
    np.testing.assert_allclose(presence[:, 0, unit] - linear_p[:, 0, unit], out[:, 0], atol=1e-4)
    np.testing.assert_allclose(position[:, 0, unit] - linear_q[:, 0, unit], out[:, 1:], atol=1e-4)
