"""What rounding costs: event F1 of the reference bundle on its muscle's next contraction."""

from __future__ import annotations

import json

import pytest
from conftest import REFERENCE

from spikewire.commands import run, score, simulate
from spikewire.runtime import engine_native

# loss of F1 that a precision may have
ALLOWED = {"fp16": 0.002, "int8": 0.002, "int8-all": 0.005}


def test_event_f1(benchmark, table, tmp_path, capsys):
    """Decoded by `mu-run` in every precision, against the truth of the simulation."""
    if not engine_native.LIBRARY.is_file():
        pytest.skip("no native library")
    record, truth = tmp_path / "emg.npz", tmp_path / "truth.npz"
    assert not simulate.main([str(record), "--truth", str(truth), "--seed", "4",
                              "--contraction", "1", "--duration", "30", "--ramp", "0",
                              "--rest", "0"])
    found: dict[str, dict[str, float]] = {}

    def decode_all() -> None:
        for engine, precision in (("ort", "fp32"), *(("native", p)
                                                     for p in engine_native.PRECISIONS)):
            trains = tmp_path / f"{engine}_{precision}.npz"
            assert not run.main([str(REFERENCE), "--source", f"replay:{record}", "--pace", "max",
                                 "--engine", engine, "--precision", precision, "--no-upkeep",
                                 "--trains", str(trains)])
            capsys.readouterr()
            assert not score.main([str(trains), str(truth), "--match", "--span", "2:30", "--json"])
            found[f"{engine} {precision}"] = json.loads(capsys.readouterr().out)

    benchmark.pedantic(decode_all, rounds=1)
    exact = found["native fp32"]["f1"]
    for name, score_of in found.items():
        loss = exact - score_of["f1"]
        assert loss <= ALLOWED.get(name.removeprefix("native "), 1e-3)
        table.add("event F1, reference bundle, next contraction", way=name,
                  f1=f"{score_of['f1']:.4f}", loss=f"{loss:+.5f}",
                  worst=f"{score_of['f1_worst']:.4f}")
