"""weights.bin: a network as the native engine reads it. The layout is in runtime/src/weights.h.

Beside every matrix whose weights the engine may round stand the mean and the largest value of its
input over the golden windows: from the mean the engine takes off a bias what rounding adds on
average, from the largest it rounds the input itself. They come from the network written once more
in numpy, which is also a second implementation to test against.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikewire.signals import POOLED, STEP, Floats

MAGIC = b"SPKWIRE2"
NETWORK, OWN, LINEAR = 1, 2, 4
MEAN_EVERY = 4  # of the golden windows, taken for the means
Arrays = dict[str, Floats]


def arrays_of(net: Any) -> Arrays:
    """Weights of a Keras network by layer.

    Matrices are c1, c2 (rows, columns) and c3, own, c4, f1, f2 (n_mu, rows, columns). Biases are
    named `c1_bias` and so on; threshold, gain and sharpness (n_mu,) are the linear decoder's. What
    a network does not have is not there.
    """
    made: Arrays = {}

    def matrix(name: str) -> tuple[Floats, Floats]:
        kernel, bias = (np.asarray(v) for v in net.get_layer(name).get_weights())
        return kernel.reshape(-1, kernel.shape[-1]), bias

    names = {layer.name for layer in net.layers}
    for name in ("c1", "c2"):
        if name in names:
            made[name], made[f"{name}_bias"] = matrix(name)
    if "linear" in names:
        layer = net.get_layer("linear")
        made |= {n: np.asarray(getattr(layer, n)) for n in ("threshold", "gain", "sharpness")}
    if "heads" in names:
        heads = net.get_layer("heads")
        made |= {n: np.asarray(getattr(heads, n)) for n in ("c3", "own", "c4", "f1", "f2")}
        made |= {f"{n}_bias": np.asarray(getattr(heads, f"{n}_bias"))[:, 0]
                 for n in ("c3", "c4", "f1", "f2")}
    elif "c3_0" in names:
        units = range(sum(n.startswith("c3_") for n in names))
        for name, pattern in (("c3", "c3_{}"), ("c4", "c4_{}"), ("f1", "f1_{}"), ("f2", "mu{}")):
            pairs = [matrix(pattern.format(unit)) for unit in units]
            made[name], made[f"{name}_bias"] = (np.stack(a) for a in zip(*pairs, strict=True))
    return made


def unfold(x: Floats, width: int, stride: int = 1) -> Floats:
    """Neighbouring columns side by side: (.., time, c) -> (.., columns, width * c)."""
    count = (x.shape[-2] - width) // stride + 1
    return np.concatenate([x[..., k : k + stride * (count - 1) + 1 : stride, :]
                           for k in range(width)], axis=-1)


def pool(x: Floats) -> Floats:
    """Maximum of two neighbouring columns."""
    return np.maximum(x[..., 0::2, :], x[..., 1::2, :])


def forward(arrays: Arrays, windows: Floats) -> tuple[Floats, Arrays, Arrays]:
    """F2's outputs (n_mu, windows, outputs) of windows (k, 120, inputs), and what layers get.

    Returns
    -------
    outputs : float32 (n_mu, windows, outputs)
    means : of inputs, "c2" (rows,), "c3", "c4", "f1" (n_mu, rows)
    most : largest inputs, "c2" (), "c3", "c4", "f1" (n_mu,)
    """
    a, means, most = arrays, {}, {}
    h = np.maximum(unfold(windows, 3) @ a["c1"] + a["c1_bias"], 0)
    h = unfold(h, 3)
    means["c2"], most["c2"] = h.mean(axis=(0, 1)), h.max()
    h = unfold(pool(np.maximum(h @ a["c2"] + a["c2_bias"], 0)), 3)
    units = len(a["c3"])
    means["c3"] = np.repeat(h.mean(axis=(0, 1))[None], units, axis=0)
    most["c3"] = np.repeat(h.max(), units)
    h = np.einsum("wtk,ukc->uwtc", h, a["c3"]) + a["c3_bias"][:, None, None]
    if "own" in a:
        own = unfold(windows.transpose(2, 0, 1)[:, :, 2:-2, None], 6, 2)
        h += np.einsum("uwtk,ukc->uwtc", own, a["own"])
    h = unfold(np.maximum(h, 0), 3)
    means["c4"], most["c4"] = h.mean(axis=(1, 2)), h.max(axis=(1, 2, 3))
    h = np.einsum("uwtk,ukc->uwtc", h, a["c4"]) + a["c4_bias"][:, None, None]
    h = unfold(pool(np.maximum(h, 0)), POOLED)[:, :, 0]
    means["f1"], most["f1"] = h.mean(axis=1), h.max(axis=(1, 2))
    h = np.maximum(np.einsum("uwk,ukc->uwc", h, a["f1"]) + a["f1_bias"][:, None], 0)
    out = np.einsum("uwk,ukc->uwc", h, a["f2"]) + a["f2_bias"][:, None]
    return out, means, most


def weights_bin(arrays: Arrays, inputs: int, bin_start: int, windows: Floats) -> bytes:
    """Bytes of weights.bin.

    Parameters
    ----------
    arrays : of `arrays_of`
    inputs : columns of the network's input
    bin_start : first sample of the decided bin in the window
    windows : float32 (k, 120, inputs), the golden ones
    """
    network, linear = "c1" in arrays, "threshold" in arrays
    units = len(arrays["f2"] if network else arrays["threshold"])
    flags = NETWORK * network + OWN * ("own" in arrays) + LINEAR * linear
    widths = [arrays[n].shape[-1] if network else 0 for n in ("c1", "c2", "c3", "c4", "f1")]
    outputs = arrays["f2"].shape[-1] if network else 1 + STEP
    parts: list[NDArray[Any]] = []
    if network:
        _, means, most = forward(arrays, windows[::MEAN_EVERY])
        parts += [arrays["c1"], arrays["c1_bias"], arrays["c2"], arrays["c2_bias"], means["c2"],
                  most["c2"]]
        for unit in range(units):
            for name in ("c3", "own", "c4", "f1"):
                if name in arrays:
                    parts.append(arrays[name][unit])
                if name != "own":
                    parts += [arrays[f"{name}_bias"][unit], means[name][unit], most[name][unit]]
            parts += [arrays["f2"][unit], arrays["f2_bias"][unit]]
    if linear:
        parts += [arrays[n] for n in ("threshold", "gain", "sharpness")]
    header = struct.pack("<14I", inputs, units, *widths, outputs, bin_start, flags, 0, 0, 0, 0)
    return MAGIC + header + b"".join(np.asarray(p, "<f4").tobytes() for p in parts)
