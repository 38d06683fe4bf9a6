"""The networks: SO-DCNN and MO-DCNN as published, and the decoder that starts at the linear filter.

All map (batch, samples, inputs) to presence logits (batch, windows, n_mu) and, where they place the
spike inside the bin, position logits (batch, windows, n_mu, 20). Keras 3 on TensorFlow.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf
from keras import layers

WINDOW, STEP = 120, 20
POOLED = 27  # columns left of a 120-sample window after two valid convolutions and a pool, twice


def mo_dcnn(
    channels: int,
    n_mu: int,
    trunk: Sequence[int] = (128, 128),
    heads: Sequence[int] = (128, 64, 256),
    dropout: float = 0.5,
    window: int = WINDOW,
) -> keras.Model:
    """MO-DCNN of Wen et al. 2021, section 2.2: shared C1, C2, pool; C3 to F2 for each motor unit.

    Valid convolutions of kernel 3 and pools of 2 give the published 5,241,994 weights for 64
    channels and ten units. Dropout acts on the inputs of C3, F1 and F2. A window of 20 samples, the
    paper's shortest, leaves two columns before F1; 16 is the least.

    Returns
    -------
    keras.Model
        float32 (batch, window, channels) -> presence logits float32 (batch, 1, n_mu). The sigmoid
        is applied by the loss and by the exported graph.
    """
    emg = keras.Input((window, channels), name="x")
    shared = layers.Conv1D(trunk[0], 3, activation="relu", name="c1")(emg)
    shared = layers.Conv1D(trunk[1], 3, activation="relu", name="c2")(shared)
    shared = layers.MaxPooling1D(2, name="p1")(shared)
    shared = layers.Dropout(dropout, name="d3")(shared)
    outputs = []
    for unit in range(n_mu):
        h = layers.Conv1D(heads[0], 3, activation="relu", name=f"c3_{unit}")(shared)
        h = layers.Conv1D(heads[1], 3, activation="relu", name=f"c4_{unit}")(h)
        h = layers.MaxPooling1D(2, name=f"p2_{unit}")(h)
        h = layers.Flatten(name=f"flat_{unit}")(h)
        h = layers.Dropout(dropout, name=f"d1_{unit}")(h)
        h = layers.Dense(heads[2], activation="relu", name=f"f1_{unit}")(h)
        h = layers.Dropout(dropout, name=f"d2_{unit}")(h)
        outputs.append(layers.Dense(1, name=f"mu{unit}")(h))
    presence = outputs[0] if n_mu == 1 else layers.Concatenate(name="mu")(outputs)
    presence = layers.Reshape((1, n_mu), name="presence")(presence)
    return keras.Model(emg, presence, name="mo_dcnn")


def so_dcnn(channels: int, **widths: object) -> keras.Model:
    """SO-DCNN of the same paper: the one-unit case, 590,785 weights for 64 channels."""
    return mo_dcnn(channels, 1, **widths)  # type: ignore[arg-type]


def as_pair(outputs: Any) -> tuple[tf.Tensor, tf.Tensor | None]:
    """Presence and position logits; the paper's networks have no position."""
    if isinstance(outputs, (tuple, list)):
        presence, position = outputs
        return presence, position
    return outputs, None


def unfold(x: tf.Tensor, width: int, stride: int = 1) -> tf.Tensor:
    """Stack `width` neighbouring columns: (.., time, c) -> (.., columns, width * c)."""
    columns = (x.shape[-2] - width) // stride + 1
    last = stride * (columns - 1) + 1
    return tf.concat([x[..., k : k + last : stride, :] for k in range(width)], axis=-1)


def pool(x: tf.Tensor) -> tf.Tensor:
    """Maximum of two neighbouring columns: (..., time, channels) -> (..., time // 2, channels)."""
    return tf.maximum(x[..., 0::2, :], x[..., 1::2, :])


class LinearHead(layers.Layer):
    """Decode the outputs of the linear MU filters: the baseline, and where the network starts.

    A unit's presence logit is gain * (height - threshold), height being the largest local maximum
    (+-10 samples) of its filter output inside the bin; position logits are sharpness * output.

    Parameters
    ----------
    thresholds : float (n_mu,), in units of the filter output
    bin_start : int, first sample of the bin in the window
    """

    def __init__(self, thresholds: Sequence[float], bin_start: int, **rest: object) -> None:
        super().__init__(**rest)
        self.thresholds, self.bin_start = [float(t) for t in thresholds], bin_start
        n_mu = len(self.thresholds)
        self.threshold = self.add_weight(
            shape=(n_mu,), name="threshold", initializer=lambda *_a, **_k: self.thresholds
        )
        self.gain = self.add_weight(
            shape=(n_mu,), name="gain", initializer=keras.initializers.Constant(15.0)
        )
        self.sharpness = self.add_weight(
            shape=(n_mu,), name="sharpness", initializer=keras.initializers.Constant(10.0)
        )

    def call(self, x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """(batch, samples, n_mu) -> presence (batch, K, n_mu), position (batch, K, n_mu, 20)."""
        n_mu = len(self.thresholds)
        windows = (x.shape[1] - WINDOW) // STEP + 1
        start, stop = self.bin_start, self.bin_start + STEP * windows
        around = x[:, start - 10 : stop + 10, :n_mu]
        summit = tf.nn.max_pool1d(around, 21, 1, "VALID")
        at = x[:, start:stop, :n_mu]
        bins = tf.reshape(tf.where(at >= summit, at, tf.zeros_like(at)), (-1, windows, STEP, n_mu))
        presence = self.gain * (tf.reduce_max(bins, axis=2) - self.threshold)
        return presence, self.sharpness[:, None] * tf.transpose(bins, (0, 1, 3, 2))


class Heads(layers.Layer):
    """C3 to F2 of all units at once, unit axis first: batched products, not n_mu small layers.

    Each head also sees its own filter output beside the trunk. F2 starts at zero, so that the
    untrained network equals its linear start.
    """

    def __init__(self, n_mu: int, widths: Sequence[int], dropout: float, **rest: object) -> None:
        super().__init__(**rest)
        self.n_mu, self.widths = n_mu, list(widths)
        self.dropout = layers.Dropout(dropout)

    def build(self, trunk_shape: Sequence[int], x_shape: Sequence[int]) -> None:
        """Create the weights; kernels are (n_mu, inputs, outputs)."""
        c3, c4, f1 = self.widths
        sizes = {"c3": (3 * trunk_shape[-1], c3), "own": (6, c3), "c4": (3 * c3, c4),
                 "f1": (POOLED * c4, f1), "f2": (f1, 1 + STEP)}
        for name, (inputs, outputs) in sizes.items():
            spread = {"f2": 0.0, "c3": 0.7, "own": 0.7}.get(name, 1.0) * (2 / inputs) ** 0.5
            start = keras.initializers.RandomNormal(0, spread) if spread else "zeros"
            self.add_weight_pair(name, (self.n_mu, inputs, outputs), start)
        self.built = True

    def add_weight_pair(self, name: str, shape: tuple[int, int, int], start: object) -> None:
        """One kernel and its bias."""
        setattr(self, name, self.add_weight(shape=shape, initializer=start, name=name))
        if name != "own":
            bias = self.add_weight(shape=(shape[0], 1, shape[2]), initializer="zeros",
                                   name=f"{name}_bias")
            setattr(self, f"{name}_bias", bias)

    def call(
        self, trunk: tf.Tensor, x: tf.Tensor, training: bool = False
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Corrections to the presence (batch, K, n_mu) and position (batch, K, n_mu, 20) logits."""
        n, batch, columns = self.n_mu, tf.shape(trunk)[0], trunk.shape[1]
        c3, c4, _ = self.widths
        flat = tf.reshape(unfold(trunk, 3), (1, -1, 3 * trunk.shape[2]))
        h = tf.matmul(flat, self.c3)
        own = tf.transpose(tf.reshape(x[:, 2:-2, :n], (-1, columns, 2, n)), (3, 0, 1, 2))
        h += tf.matmul(tf.reshape(unfold(own, 3), (n, -1, 6)), self.own)
        h = tf.reshape(tf.nn.relu(h + self.c3_bias), (n, batch, columns - 2, c3))
        h = tf.matmul(tf.reshape(unfold(h, 3), (n, -1, 3 * c3)), self.c4)
        h = tf.reshape(tf.nn.relu(h + self.c4_bias), (n, batch, columns - 4, c4))
        h = self.dropout(pool(h), training=training)
        windows = (h.shape[2] - POOLED) // 5 + 1
        h = tf.reshape(unfold(h, POOLED, 5), (n, -1, POOLED * c4))
        h = self.dropout(tf.nn.relu(tf.matmul(h, self.f1) + self.f1_bias), training=training)
        out = tf.reshape(tf.matmul(h, self.f2) + self.f2_bias, (n, batch, windows, 1 + STEP))
        out = tf.transpose(out, (1, 2, 0, 3))
        return out[..., 0], out[..., 1:]


def linear(thresholds: Sequence[float], bin_start: int, samples: int = WINDOW) -> keras.Model:
    """Linear MU filter alone: filter outputs (batch, samples, n_mu) -> presence, position."""
    x = keras.Input((samples, len(thresholds)), name="x")
    return keras.Model(x, LinearHead(thresholds, bin_start, name="linear")(x), name="linear")


def recommended(
    thresholds: Sequence[float],
    bin_start: int,
    trunk: Sequence[int] = (48, 48),
    heads: Sequence[int] = (16, 16, 32),
    dropout: float = 0.2,
    samples: int = WINDOW,
) -> keras.Model:
    """Shared trunk and one head per unit behind the MU filters, starting at the linear solution.

    The paper's shape (C1, C2, pool, then C3, C4, pool, F1, F2 per unit) with narrow layers, since
    the filters already separate the units. Fully convolutional in time: `samples` = 120 + 20 k
    gives k + 1 windows.
    """
    x = keras.Input((samples, len(thresholds)), name="x")
    he = keras.initializers.HeNormal
    h = layers.Conv1D(trunk[0], 3, activation="relu", kernel_initializer=he(), name="c1")(x)
    h = layers.Conv1D(trunk[1], 3, activation="relu", kernel_initializer=he(), name="c2")(h)
    h = layers.Dropout(dropout, name="d1")(layers.MaxPooling1D(2, name="p1")(h))
    presence, position = LinearHead(thresholds, bin_start, name="linear")(x)
    more, where = Heads(len(thresholds), heads, dropout, name="heads")(h, x)
    return keras.Model(x, (presence + more, position + where), name="recommended")
