"""Engines, bundle, golden windows, latency: what the doctor makes of the self-test."""

from __future__ import annotations

from pathlib import Path

import pytest
from jetson import only

pytest.importorskip("onnxruntime")

from spikewire.bundle import arm_id, read_bundle
from spikewire.doctor import decoder
from spikewire.doctor.finding import Asked
from spikewire.doctor.machine import Machine
from spikewire.runtime import engine_native
from spikewire.runtime import selftest as runtime_selftest
from spikewire.runtime.engine import EngineError

FAST = {"p50": 1.0, "p99": 2.0, "max": 3.0}
RUN = {"engine": "native (avx2, fp32)", "steps": 100, "decoded": 93, "missed": 0,
       "compute_ms": FAST, "age_ms": FAST, "decode_delay_ms": FAST}


def selftest(asked: Asked) -> list:
    return list(decoder.selftest(Machine(), asked))


def test_a_bundle_is_what_it_says(bundle_path: Path, tmp_path: Path) -> None:
    (found,) = decoder.bundle(Machine(), Asked(bundle=str(bundle_path)))
    bundle = read_bundle(bundle_path)
    assert found.state == "ok"
    assert f"{len(bundle.files)} hashes agree, 4 units, 16 channels at 2048 Hz" in found.evidence
    assert found.figures == {"sha256": bundle.sha256, "arm_id": f"{arm_id([bundle]):08x}"}
    content = bundle_path.read_bytes()
    for name, bad in (("half", content[:999]), ("empty", b""),
                      ("flip", content[:5000] + bytes([content[5000] ^ 1]) + content[5001:])):
        path = tmp_path / f"{name}.mub"
        path.write_bytes(bad)
        (found,) = decoder.bundle(Machine(), Asked(bundle=str(path)))
        assert (found.state, found.remedy) == ("fail", "copy or export it again")
        assert [f.state for f in selftest(Asked(bundle=str(path), self_test=True))] == ["n/a"] * 2
    (found,) = decoder.bundle(Machine(), Asked())
    assert (found.state, found.remedy) == ("n/a", "mu-doctor X.mub")


def test_without_the_word_nothing_is_tested(bundle_path: Path) -> None:
    assert [f.state for f in selftest(Asked(bundle=str(bundle_path)))] == ["n/a", "n/a"]


def test_golden_windows_in_every_precision_asked(bundle_path: Path) -> None:
    asked = Asked(bundle=str(bundle_path), self_test=True, seconds=0, engine="ort",
                  precisions=("fp16", "fp32"))
    bad, good, latency = selftest(asked)
    assert (bad.step, bad.state) == ("golden fp16", "fail")
    assert "holds no fp16 network" in bad.evidence
    assert (good.step, good.state) == ("golden fp32", "ok")
    assert good.evidence.startswith("ort (CPU, fp32): 200 windows, differ by up to ")
    assert good.figures["difference"] <= good.figures["allowed"] == 1e-4
    assert (latency.state, latency.evidence) == ("n/a", "no engine runs")


def test_seconds_0_leaves_the_paced_run_out(bundle_path: Path) -> None:
    found = selftest(Asked(bundle=str(bundle_path), self_test=True, seconds=0))
    assert only(found, "latency").evidence == "--seconds 0"


def test_a_paced_run_on_this_machine(bundle_path: Path) -> None:
    """Not how fast it is, but that the figures are those of the run."""
    found = only(selftest(Asked(bundle=str(bundle_path), self_test=True, seconds=0.3)), "latency")
    assert found.figures["decode_delay_ms"]["p50"] > 9.7  # the look-ahead alone
    assert f"{found.figures['steps']} steps at real speed" in found.evidence
    assert found.figures["engine"] in found.evidence


@pytest.mark.parametrize(("change", "state"), [
    ({}, "ok"), ({"missed": 1}, "warn"), ({"decoded": 0}, "fail"),
    ({"age_ms": {"p50": 1.0, "p99": 31.0, "max": 32.0}}, "warn"),
    ({"compute_ms": {"p50": 1.0, "p99": 9.8, "max": 9.9}}, "fail"),
    ({"compute_ms": {"p50": 1.0, "p99": 9.7, "max": 50.0}}, "ok"),
    ({"decode_delay_ms": {"p50": 70.0, "p99": 80.5, "max": 99.0}}, "fail"),
])
def test_what_is_too_slow(bundle_path: Path, monkeypatch, change: dict, state: str) -> None:
    """Truth: the budget of 80 ms from discharge to frame, and a step every 9.766 ms."""
    monkeypatch.setattr(runtime_selftest, "paced", lambda *_: {**RUN, **change})
    found = decoder.latency(read_bundle(bundle_path), None, 1.0)
    assert found.state == state
    assert bool(found.remedy) == (state != "ok")


def test_an_engine_that_decodes_nothing_proves_nothing(bundle_path: Path) -> None:
    asked = Asked(bundle=str(bundle_path), self_test=True, seconds=0, engine="null")
    assert only(selftest(asked), "golden fp32").state == "n/a"


def test_an_engine_that_breaks_is_a_finding(bundle_path: Path, monkeypatch) -> None:
    def broken(*_: object) -> None:
        raise EngineError("CUDA: 719; start the run again")

    monkeypatch.setattr(runtime_selftest, "paced", broken)
    found = decoder.latency(read_bundle(bundle_path), None, 1.0)
    assert (found.state, found.evidence) == ("fail", "CUDA: 719; start the run again")


def test_engines_of_this_machine_and_of_one_without_any(monkeypatch, tmp_path: Path) -> None:
    (found,) = decoder.engines(Machine(), Asked())
    assert found.state == "ok"
    assert "ort there" in found.evidence
    monkeypatch.setattr(engine_native, "LIBRARY", tmp_path / "none.so")
    monkeypatch.setattr(decoder, "version_of", lambda module, package: "")
    (found,) = decoder.engines(Machine(), Asked())
    assert found.state == "fail"
    assert "native lacks its library; ort lacks onnxruntime" in found.evidence
    assert "tensorrt lacks tensorrt, cuda" in found.evidence
    (found,) = decoder.engines(Machine(), Asked(engine="tensorrt"))
    assert (found.state, "--engine tensorrt takes tensorrt" in found.evidence) == ("fail", True)
