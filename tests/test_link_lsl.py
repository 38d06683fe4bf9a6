"""LSL out. Truth: what another library's inlet hears."""

from __future__ import annotations

import math
import time
import uuid

import numpy as np
import pytest

from spikewire.link.codec import Step
from spikewire.link.lsl import layout
from spikewire.link.profile import Info
from spikewire.link.transport import LinkError, open_link

INFO = Info(0xABCD, (3, 2))


@pytest.fixture(scope="module")
def pylsl():
    try:
        import pylsl
    except (ImportError, RuntimeError):
        pytest.skip("no liblsl here")
    return pylsl


def test_the_channels_are_named() -> None:
    labels = [label for label, _ in layout(INFO)]
    assert labels == ["step", "state", "faults", "age", "drive0", "drive1", "bundle0_mu0",
                      "bundle0_mu1", "bundle0_mu2", "bundle1_mu0", "bundle1_mu1"]


@pytest.mark.parametrize("uri", ["lsl:", "lsl:x?arm=1", "lsl:x?profile=fulll", "lsl:" + "x" * 99,
                                 "lsl:a\x1b[2J"])
def test_what_is_refused(uri: str) -> None:
    with pytest.raises(LinkError, match=r"link "):
        open_link(uri, INFO)


def test_a_reader_hears_every_step_with_the_time_of_its_emg(pylsl) -> None:
    name = f"t{uuid.uuid4().hex[:8]}"
    link = open_link(f"lsl:{name}", INFO)
    (found,) = pylsl.resolve_byprop("name", name, timeout=10)
    inlet = pylsl.StreamInlet(found, recover=False)
    inlet.open_stream(10)
    assert found.type() == "MotorUnits"
    assert found.nominal_srate() == pytest.approx(102.4)
    drive = (12.5, math.nan, math.nan, math.nan)
    steps = [Step(slot=0, state=3, step=41, faults=5, age_ms=12.0, drive=drive, n_mu=3,
                  counts=np.array([1, 0, 2], np.uint8)),
             Step(slot=1, state=3, step=41, faults=5, age_ms=12.0, drive=drive, n_mu=2,
                  counts=np.array([0, 1], np.uint8), muted=np.array([1]))]
    deadline, got = time.monotonic() + 10, None
    while got is None and time.monotonic() < deadline:
        sent = pylsl.local_clock()
        assert link.send(steps)
        got, stamp = inlet.pull_sample(0.2)
    assert got is not None
    np.testing.assert_array_equal(
        got, [41, 3, 5, 12, 12.5, math.nan, 1, 0, 2, 0, math.nan])
    assert stamp == pytest.approx(sent - 0.012, abs=0.25)  # an older one may have come first
    assert link.poll() == []
    link.close()
    with pytest.raises(LinkError, match="is closed"):
        link.send(steps)
