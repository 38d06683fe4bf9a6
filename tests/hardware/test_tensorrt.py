"""What only an NVIDIA GPU with TensorRT can show: golden windows, paced time, plans kept.

Type: python -m pytest tests/hardware -rs
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tensorrt", reason="no TensorRT here (it comes with JetPack)")
pytest.importorskip("cuda.bindings.runtime", reason="no cuda-bindings here")

from spikewire.bundle import read_bundle
from spikewire.runtime.engine import check_golden
from spikewire.runtime.engine_tensorrt import TensorRtEngine
from spikewire.signals import STEP

REFERENCE = Path(__file__).parents[2] / "models" / "reference.mub"
PERIOD_S = 20 / 2048


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_golden_windows_and_paced_time(precision: str, tmp_path: Path) -> None:
    """Within the tolerance of the bundle, and inside a step at the pace of the signal."""
    bundle = read_bundle(REFERENCE)
    engine = TensorRtEngine(bundle, precision, tmp_path)
    worst = check_golden(engine, bundle, precision)
    assert "built now" not in TensorRtEngine(bundle, precision, tmp_path).name
    emg = np.random.default_rng(0).normal(0, 100, (STEP, bundle.manifest.channels))
    took, due = [], time.monotonic()
    for _ in range(1000):
        due += PERIOD_S
        time.sleep(max(0.0, due - time.monotonic()))
        started = time.perf_counter()
        engine.advance(emg.astype(np.float32))
        engine.decode()
        took.append(1e3 * (time.perf_counter() - started))
        engine.prepare()
    p50, p99 = np.percentile(took, [50, 99])
    print(f"{engine.name}: golden {worst:.1e}, paced step p50 {p50:.2f} ms, p99 {p99:.2f} ms")
    assert p99 < 1e3 * PERIOD_S
