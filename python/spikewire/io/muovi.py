"""Muovi and Muovi+ of OT Bioelettronica over Wi-Fi: 32 or 64 channels, 2000 Hz.

The probe calls us and gets one byte. Mode 1 means 16 channels, gain 4 or "remove the average",
depending on model and firmware, so only mode 0 (monopolar, gain 8) is used. Source: the vendor's
own clients.
"""

from __future__ import annotations

from spikewire.io.amplifier import Amplifier
from spikewire.io.dial import address
from spikewire.io.source import Clock, refuse_unknown
from spikewire.io.stream import Stream
from spikewire.io.words import Layout, Words
from spikewire.signals import InputError

PORT = 54321
FS_HZ = 2000.0
LSB_UV = 4.8 / 2**16 / 256 * 1e6
EMG, MODE, GO = 1 << 3, 0 << 1, 1
MORE = 6  # words: 4 of the quaternion, buffer and trigger, counter
# scheme -> channels, samples of a packet
MODELS = {"muovi": (32, 18), "muovi+": (64, 10)}


def command(on: bool) -> bytes:
    """The byte that starts or stops the probe."""
    return bytes([EMG | MODE | (GO if on else 0)])


def open_uri(uri: str, where: str, options: dict[str, str], clock: Clock) -> Stream:
    """Open `muovi:` (32 channels) or `muovi+:` (64); `muovi:ADDRESS:PORT` listens there only.

    Raises
    ------
    InputError
        Unknown option, a mode other than 0, a port that is taken, or no samples at their pace.
    """
    refuse_unknown(uri, options, {"mode"})
    if options.get("mode", "0") != "0":
        raise InputError(
            f"source {uri!r}: mode={options['mode']} came, allowed is 0: mode 1 means 16 channels, "
            "gain 4 or no mean, depending on the firmware, 2 is impedance, 3 a self-test; leave it "
            "out")
    model = uri.partition(":")[0]
    channels, packet = MODELS[model]
    words = channels + MORE
    layout = Layout(words, slice(0, channels), counter=words - 1)
    other = next(m for m in MODELS if m != model)
    return Stream(uri, Amplifier(
        model, FS_HZ, LSB_UV, channels, packet, ((command(True), 0.0),), command(False),
        lambda: Words((layout,), big=True), own=address(uri, where, "0.0.0.0", PORT),
        advice="is the probe on, in this network, and set to call this machine? Samples of "
               f"{MODELS[other][0] + MORE} words are those of the other model: type {other}:",
    ), clock).open()
