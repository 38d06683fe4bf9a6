"""The engine that decodes nothing. Truth: the contract of `engine.Engine`, and silence."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from spikewire.bundle import read_bundle
from spikewire.runtime.engine import open_engine


def test_it_takes_everything_and_reports_nothing(bundle_path: Path) -> None:
    """Opened without its golden windows: it would fail them, and says so by its name."""
    engine = open_engine(read_bundle(bundle_path), "null")
    assert engine.name.startswith("null")
    for _ in range(3):
        engine.advance(np.ones((20, 16), np.float32))
        assert engine.ready
        presence, position = engine.decode()
        assert presence.dtype == np.float32
        assert presence.tolist() == [0.0] * 4
        assert position.shape == (4,)
    engine.set_front(np.zeros((128, 4), np.float32), np.ones(4, np.float32))
    engine.mask(np.zeros(16, bool))
    engine.reset()
    assert engine.ready
