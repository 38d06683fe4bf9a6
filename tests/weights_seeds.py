"""Write weights of every shape of the tests into a folder, as seeds for the fuzz target."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from test_runtime_engine_native import SHAPES, arrays

from spikewire.signals import WINDOW
from spikewire.weights import weights_bin

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for number, shape in enumerate(SHAPES.values()):
        rng, inputs = np.random.default_rng(0), shape.units if shape.delays else shape.channels
        content = weights_bin(arrays(shape, rng), inputs, shape.bin_start,
                              rng.normal(0, 1, (8, WINDOW, inputs)).astype(np.float32))
        (folder / f"{number}.bin").write_bytes(content)
