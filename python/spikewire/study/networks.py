"""The paper's networks for any window, and the variants of section 2.2 that it compared them with.

The published network is `network.mo_dcnn`, here and everywhere. What the paper does not say of the
variants is decided here: the heads stay one per motor unit, a network with two convolutions keeps
the pool after them, and dropout acts on the inputs of the fully connected layers.
"""

from __future__ import annotations

from collections.abc import Sequence

import keras
from keras import layers

from spikewire import network


def build(
    channels: int, n_mu: int, window: int, convolutions: int, nodes: Sequence[int],
    dropout: float = 0.5,
) -> keras.Model:
    """One of the networks of Wen et al. 2021, section 2.2.

    Parameters
    ----------
    window : int, samples, 16 or more
    convolutions : 0, 2 or 4 (the published one)
    nodes : widths of C1, C2, C3, C4 and F1; layers that are missing ignore theirs

    Returns
    -------
    keras.Model
        float32 (batch, window, channels) -> presence logits float32 (batch, 1, n_mu).
    """
    if convolutions == 4:
        return network.mo_dcnn(channels, n_mu, nodes[:2], nodes[2:], dropout, window)
    emg = keras.Input((window, channels), name="x")
    h = emg
    if convolutions == 2:
        h = layers.Conv1D(nodes[0], 3, activation="relu", name="c1")(h)
        h = layers.Conv1D(nodes[1], 3, activation="relu", name="c2")(h)
        h = layers.MaxPooling1D(2, name="p1")(h)
    h = layers.Dropout(dropout, name="d1")(layers.Flatten(name="flat")(h))
    outputs = []
    for unit in range(n_mu):
        f1 = layers.Dense(nodes[4], activation="relu", name=f"f1_{unit}")(h)
        f1 = layers.Dropout(dropout, name=f"d2_{unit}")(f1)
        outputs.append(layers.Dense(1, name=f"mu{unit}")(f1))
    presence = outputs[0] if n_mu == 1 else layers.Concatenate(name="mu")(outputs)
    return keras.Model(emg, layers.Reshape((1, n_mu), name="presence")(presence))
