"""States and faults as a person reads them; one row for each of the message table's."""

from __future__ import annotations

from spikewire.link.table import FAULTS, STATES

STATE_WORDS = {
    "BOOT": "starting",
    "IDLE": "too few samples yet",
    "READY": "decoding; no controller has armed",
    "ACTIVE": "armed: the controller is told the drive",
    "DEGRADED": "something is not as it should be",
    "SAFE": "not to be used: no drive is told",
    "FAULT": "failed; the controller must clear it",
    "NA": "unknown",
}
FAULT_WORDS = {
    "stale": "EMG is old",
    "gap": "samples were lost or came twice",
    "liftoff": "electrodes are off",
    "saturated": "channels at the converter's end",
    "implausible": "firing that cannot be",
    "overrun": "steps are late",
    "engine": "the engine failed",
    "nan": "the engine's answer is no number",
    "link": "a link cannot send",
    "thermal": "the board is hot",
    "config": "a controller names another bundle",
    "clock": "time runs wrong",
    "drift": "a unit's source is lost",
    "latched": "until the controller clears it",
}


def faults_of(bits: int) -> list[str]:
    """Words of the bits that are set."""
    return [FAULT_WORDS[name] for bit, name in FAULTS.items() if bits >> bit & 1]


def table() -> dict[str, list[list[object]]]:
    """States (number, name, words) and faults (bit, name, words), ready for JSON."""
    return {"states": [[k, name, STATE_WORDS[name]] for k, name in STATES.items()],
            "faults": [[bit, name, FAULT_WORDS[name]] for bit, name in FAULTS.items()]}
