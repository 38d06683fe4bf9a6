"""An engine that decodes nothing: the idle control of a timing run, and a test of all else."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spikewire.bundle import Bundle
from spikewire.signals import STEP, Floats


class NullEngine:
    """See `spikewire.runtime.engine.Engine`: consumes samples, reports no discharge."""

    name = "null (decodes nothing)"
    ready, for_control = True, False

    def __init__(self, n_mu: int) -> None:
        self._presence = np.zeros(n_mu, np.float32)
        self._position = np.full(n_mu, STEP // 2, np.int64)

    def advance(self, emg: Floats) -> None:
        """Consume 20 samples."""

    def decode(self) -> tuple[Floats, NDArray[np.int64]]:
        """No discharge."""
        return self._presence, self._position

    def prepare(self) -> None:
        """Nothing."""

    def reset(self) -> None:
        """Nothing to forget."""

    def set_front(self, kernels: Floats, scale: Floats) -> None:
        """No filters to swap."""

    def mask(self, good: NDArray[np.bool_]) -> None:
        """No channels to take out."""


def open_engine(bundle: Bundle, precision: str) -> NullEngine:
    """Open the engine that does nothing."""
    return NullEngine(bundle.manifest.n_mu)
