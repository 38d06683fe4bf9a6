"""The front: linear MU filters on the new 20 samples, and the window of their outputs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spikewire.bundle import Bundle
from spikewire.signals import STEP, WINDOW, Floats


class Front:
    """Keeps the newest samples and the newest 120 columns of the network's input.

    Without filters (the paper's networks) the scaled EMG itself is the window.

    Attributes
    ----------
    window : float32 (120, inputs)
        The network's input, oldest first; written in place by `push`.
    """

    def __init__(self, bundle: Bundle) -> None:
        m = bundle.manifest
        self._map = np.array(m.channel_map)
        self._whole = m.channel_map == list(range(m.channels))
        self._scale = np.float32(m.input_scale)
        self._need = m.history_samples + WINDOW
        self._samples = np.zeros((self._need, len(self._map)), np.float32)
        self.window = np.zeros((WINDOW, m.inputs), np.float32)
        self._have = 0
        self._kernel: Floats | None = None
        self._good = np.ones(len(self._map), bool)
        front = bundle.front()
        if front:
            self._delays = m.history_samples + 1
            self._extended = np.empty((STEP, self._delays * len(self._map)), np.float32)
            self._set_kernel(front[0] / front[1])

    @property
    def ready(self) -> bool:
        """Whether the window holds 120 columns that are not start-up."""
        return self._have >= self._need

    def reset(self) -> None:
        """Forget everything, after a gap."""
        self._samples[:] = 0
        self.window[:] = 0
        self._have = 0

    def push(self, emg: Floats) -> None:
        """Take 20 new samples: float32 (20, channels of the source), microvolt."""
        new = emg if self._whole else emg[:, self._map]
        self._samples[:-STEP] = self._samples[STEP:]
        np.multiply(new, self._scale, out=self._samples[-STEP:])
        self.window[:-STEP] = self.window[STEP:]
        self._outputs(self._need - STEP, self.window[-STEP:])
        self._have = min(self._have + STEP, self._need)

    def set_front(self, kernels: Floats, scale: Floats) -> None:
        """Swap the filters between two steps: the whole window is computed again, no step is lost.

        Parameters
        ----------
        kernels : float32 (delays * channels, inputs)
        scale : float32 (inputs,)
        """
        self._set_kernel(kernels / scale)
        for start in range(0, WINDOW, STEP):
            self._outputs(self._need - WINDOW + start, self.window[start : start + STEP])

    def mask(self, good: NDArray[np.bool_]) -> None:
        """Zero the channels that are not `good`, from the next step on."""
        self._good = good.copy()
        if self._kernel is not None:
            self._masked = self._kernel * np.tile(good, self._delays)[:, None]

    def _set_kernel(self, bank: Floats) -> None:
        """Store the bank oldest delay first, so that a row of history is one contiguous run."""
        channels = len(self._map)
        oldest_first = bank.reshape(self._delays, channels, -1)[::-1]
        self._kernel = np.ascontiguousarray(oldest_first.reshape(len(bank), -1), np.float32)
        self.mask(self._good)

    def _outputs(self, start: int, out: Floats) -> None:
        """Columns for the samples [start, start + 20) of the sample memory."""
        if self._kernel is None:
            np.multiply(self._samples[start : start + STEP], self._good, out=out)
            return
        rows = self._samples[start - self._delays + 1 : start + STEP].reshape(-1)
        np.copyto(self._extended, np.lib.stride_tricks.as_strided(
            rows, self._extended.shape, (self._samples.strides[0], self._samples.strides[1])))
        np.dot(self._extended, self._masked, out=out)


class FullWindow:
    """What engines have in common that compute the whole window each step: a front before them."""

    for_control = True

    def __init__(self, bundle: Bundle) -> None:
        self._front = Front(bundle)

    @property
    def ready(self) -> bool:
        """Whether enough samples came."""
        return self._front.ready

    def advance(self, emg: Floats) -> None:
        """Consume 20 samples."""
        self._front.push(emg)

    def prepare(self) -> None:
        """Nothing: no part of the window is computed before it is whole."""

    def reset(self) -> None:
        """Forget everything."""
        self._front.reset()

    def set_front(self, kernels: Floats, scale: Floats) -> None:
        """Swap the filters."""
        self._front.set_front(kernels, scale)

    def mask(self, good: NDArray[np.bool_]) -> None:
        """Take bad channels out."""
        self._front.mask(good)
