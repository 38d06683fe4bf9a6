"""The self-test. Truth: golden presences by numpy loops, and a clock that is read from outside."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnxruntime")

from spikewire.bundle import read_bundle, save_array
from spikewire.runtime import engine_native, selftest
from spikewire.runtime.engine import EngineError, open_engine

NATIVE = engine_native.LIBRARY.is_file()


def test_every_precision_asked_is_proven(bundle_path: Path) -> None:
    bundle = read_bundle(bundle_path)
    good, missing = selftest.golden(bundle, "ort", ["fp32", "fp16"])
    assert good.engine is not None
    assert good.engine.name == "ort (CPU, fp32)"
    assert 0 <= good.difference <= good.allowed == bundle.manifest.tolerance["fp32"] == 1e-4
    assert good.reason == ""
    assert missing.engine is None
    assert "holds no fp16 network for engine ort" in missing.reason


@pytest.mark.skipif(not NATIVE, reason="the library was not built")
def test_the_native_engine_may_round_as_its_precision_does(bundle_path: Path) -> None:
    bundle = read_bundle(bundle_path)
    proofs = selftest.golden(bundle, "native", ["fp32", "int8"])
    assert [p.engine is not None for p in proofs] == [True, True]
    assert [p.allowed for p in proofs] == pytest.approx([1e-4, 1e-4 + 0.05])


@pytest.mark.parametrize("name", ["auto", "ort"])
def test_a_decoder_that_answers_otherwise_is_caught(bundle_path: Path, name: str) -> None:
    bundle = read_bundle(bundle_path)
    wanted = bundle.array("golden/presence.fp32.npy")
    wanted[77, 2] += 1e-3
    files = {**bundle.files, "golden/presence.fp32.npy": save_array(wanted)}
    (proof,) = selftest.golden(replace(bundle, files=files), name, ["fp32"])
    assert proof.engine is None
    assert "differs from the golden windows by 0.001, allowed is 0.0001" in proof.reason


def test_a_paced_run_keeps_time_and_decodes_as_the_recording_does(bundle_path: Path) -> None:
    bundle = read_bundle(bundle_path)
    began = time.monotonic()
    run = selftest.paced(bundle, open_engine(bundle), 0.5)
    took = time.monotonic() - began
    assert took >= 0.5
    # of the steps that fit into the time it took, none came early
    assert 1 <= run["steps"] <= took * 2048 / 20 + 1
    assert 0 < run["compute_ms"]["p50"] <= run["compute_ms"]["p99"] <= run["compute_ms"]["max"]
    # look-ahead of 20 samples
    assert run["decode_delay_ms"]["max"] == pytest.approx(run["age_ms"]["max"] + 9.766, abs=0.01)


def test_an_engine_that_fails_in_mid_run_is_told(bundle_path: Path) -> None:
    bundle = read_bundle(bundle_path)
    engine = open_engine(bundle, "ort")

    def fail(emg: np.ndarray) -> None:
        raise EngineError("broken")

    engine.advance = fail  # type: ignore[method-assign]
    with pytest.raises(EngineError):
        selftest.paced(bundle, engine, 1.0)
