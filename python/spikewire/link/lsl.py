"""Lab Streaming Layer out: a sample per step, for programs of a laboratory that record or draw.

Nothing comes back, so nothing can be armed over it. A sample bears the moment of its newest EMG
sample on the stream's own clock, whatever the decoder needed for it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from spikewire.link.codec import Arm, Step
from spikewire.link.profile import NOBODY, UNKNOWN, Info, Vitals
from spikewire.link.table import STATES
from spikewire.link.transport import Counted, LinkError, Uri, options

TYPE = "MotorUnits"
LATE = 15  # raw value of a count that is not available
LAYOUT = [("step", "count"), ("state", "number"), ("faults", "bits"), ("age", "milliseconds")]


def layout(info: Info) -> list[tuple[str, str]]:
    """Label and unit of every channel: step, state, faults, age, drives, then counts of units."""
    drives = [(f"drive{slot}", "pulse/s") for slot in range(len(info.units))]
    units = [(f"bundle{slot}_mu{unit}", "spikes") for slot, n_mu in enumerate(info.units)
             for unit in range(n_mu)]
    return [*LAYOUT, *drives, *units]


class LslLink(Counted):
    """A stream of steps; see `transport.Link`.

    Parameters
    ----------
    pylsl : module
    uri, name : str
    info : Info
    """

    may_arm = False

    def __init__(self, pylsl: Any, uri: str, name: str, info: Info = NOBODY) -> None:
        super().__init__()
        self.uri, self._info, self._clock = uri, info, pylsl.local_clock
        rows = layout(info)
        about = pylsl.StreamInfo(name, TYPE, len(rows), 1 / info.period_s, "float32",
                                 f"spikewire-{info.model_id:08x}")
        about.desc().append_child_value("states", " ".join(f"{k}={v}" for k, v in STATES.items()))
        channels = about.desc().append_child("channels")
        for label, unit in rows:
            channel = channels.append_child("channel")
            for key, value in (("label", label), ("unit", unit), ("type", TYPE)):
                channel.append_child_value(key, value)
        # liblsl keeps two seconds for a reader that is late, and forgets the oldest.
        self._outlet = pylsl.StreamOutlet(about, 1, 2)

    def send(self, steps: Sequence[Step], vitals: Vitals = UNKNOWN) -> bool:
        """Hand a step to the readers there are; liblsl sends it from a thread of its own."""
        if self._outlet is None:
            raise LinkError(f"link {self.uri!r} is closed; open it again with open_link")
        first = steps[0]
        sample = [float(first.step), float(first.state), float(first.faults), first.age_ms,
                  *first.drive[: len(self._info.units)]]
        for step, n_mu in zip(steps, self._info.units, strict=True):
            counts = [math.nan if n == LATE else float(n) for n in step.counts[:n_mu]]
            counts += [math.nan] * (n_mu - len(counts))
            for unit in step.muted:
                counts[int(unit)] = math.nan
            sample += counts
        age_s = 1e-3 * first.age_ms if first.age_ms == first.age_ms else 0.0
        self._outlet.push_sample(sample, self._clock() - age_s)
        return self.count(True)

    def poll(self) -> list[Arm]:
        """Return nothing: a stream has no way back."""
        return []

    def close(self) -> None:
        """End the stream."""
        self._outlet = None


def open_lsl(uri: Uri, info: Info) -> LslLink:
    """Open `lsl:NAME`.

    Raises
    ------
    LinkError
        No name, arm=1, or no liblsl.
    """
    if options(uri)["arm"] == "1":
        raise LinkError(f"link {uri.text!r}: arm=1 came, but nothing comes back over LSL; leave it "
                        "out")
    if not uri.path or len(uri.path) > 64 or not uri.path.isprintable():
        raise LinkError(f"link {uri.text!r}: a stream needs a name of up to 64 letters; type for "
                        "instance lsl:spikewire")
    try:
        import pylsl
    except (ImportError, RuntimeError, OSError):
        raise LinkError(f"link {uri.text!r}: liblsl is not there; type pip install "
                        "'spikewire[lsl]', and on aarch64 install liblsl's own package "
                        "(github.com/sccn/liblsl/releases)") from None
    return LslLink(pylsl, uri.text, uri.path, info)
