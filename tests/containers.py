"""Containers as other programs write them, for the tests: tar, XML and raw words, MATLAB 7.3.

Written from the formats' description, with nothing of the readers: see docs/formats.md.
"""

from __future__ import annotations

import io
import struct
import tarfile
from pathlib import Path

import numpy as np

GR = "GR08MM1305"


def tar(path: Path, members: dict[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def device_xml(
    name: str, adapters: list[tuple[str, str, int, str]], fs: int = 2048, bits: int = 16,
    channel_gain: str | None = "1", adapter_gain: str = "1",
) -> bytes:
    """Adapters are (ID, channel ID, channels, muscle), one after the other."""
    gain = "" if channel_gain is None else f' Gain="{channel_gain}"'
    total, parts = 0, []
    for word, channel, n, muscle in adapters:
        channels = "".join(f'<Channel Index="{k}" ID="{channel}" Muscle="{muscle}"{gain}/>'
                           for k in range(n))
        parts.append(f'<Adapter ID="{word}" Gain="{adapter_gain}" ChannelStartIndex="{total}" '
                     f'HighPassFilter="10" LowPassFilter="500">{channels}</Adapter>')
        total += n
    return (f'<?xml version="1.0" encoding="utf-8"?><Device Name="{name}" ad_bits="{bits}" '
            f'SampleFrequency="{fs}" DeviceTotalChannels="{total}"><Channels>{"".join(parts)}'
            "</Channels></Device>").encode()


def otb_plus(
    path: Path, counts: np.ndarray, name: str = "QUATTROCENTO;1.2",
    adapters: list[tuple[str, str, int, str]] | None = None, **facts: object,
) -> Path:
    """`counts` are (samples, channels) of all adapters together."""
    adapters = adapters or [("AD1x64", GR, counts.shape[1] - 2, "Vastus Lateralis"),
                            ("AdapterControl", "Ramp", 2, "")]
    return tar(path, {
        "20260101.sig": counts.astype("<i2").tobytes(),
        "20260101.xml": device_xml(name, adapters, **facts),
        "track.sip": np.zeros(8).tobytes(),
        "markers_0.xml": b"<Markers/>",
    })


def track_xml(
    title: str, channels: int, signal: str, acquisition: int = 0, offset: int = 0,
    device: str = "Sessantaquattro+", fs: int = 2000, gain: float = 1.0, bits: int = 16,
    volts: float = 5.0, unit: str = "mV", factor: float = 1000.0, control: bool = False,
    more: str = "", sensor: str = GR,
) -> str:
    return (f"<TrackInfo><Title>{title}</Title><SubTitle>{title}</SubTitle>"
            f"<Device>{device}</Device><IsControl>{str(control).lower()}</IsControl><Gain>{gain}</Gain>"
            f"<ADC_Nbits>{bits}</ADC_Nbits><ADC_Range>{volts}</ADC_Range>"
            f"<SamplingFrequency>{fs}</SamplingFrequency><NumberOfChannels>{channels}"
            f"</NumberOfChannels><AcquisitionChannel>{acquisition}</AcquisitionChannel>"
            f"<ChannelOffsetInSubPacket>{offset}</ChannelOffsetInSubPacket>"
            f"<SignalStreamPath>{signal}</SignalStreamPath><UnitOfMeasurement>{unit}"
            f"</UnitOfMeasurement><UnitOfMeasurementFactor>{factor}</UnitOfMeasurementFactor>"
            f"<StringsDescriptions><OriginalSensor>{sensor}</OriginalSensor></StringsDescriptions>"
            f"{more}</TrackInfo>")


def otb4(path: Path, tracks: list[str], signals: dict[str, np.ndarray]) -> Path:
    return tar(path, {
        "DeviceParameters.xml": b"<DeviceParameters/>",
        "Tracks_000.xml": ("<ArrayOfTrackInfo>" + "".join(tracks) + "</ArrayOfTrackInfo>").encode(),
        **{name: counts.tobytes() for name, counts in signals.items()},
        "TrapezoidalTracks_000.sig2": np.zeros(10).tobytes(),
    })


def matlab73(path: Path, values: dict[str, object]) -> Path:
    """What MATLAB writes with -v7.3: arrays turned around, text as numbers, cells as references."""
    import h5py

    def put(group: object, name: str, value: object) -> None:
        if isinstance(value, dict):
            inner = group.create_group(name)
            for key, item in value.items():
                put(inner, key, item)
        elif isinstance(value, str):
            codes = np.array([[ord(c)] for c in value], np.uint16)
            group.create_dataset(name, data=codes).attrs["MATLAB_class"] = np.bytes_("char")
        elif np.asarray(value).dtype.hasobject:
            refs = file.require_group("#refs#")
            held = np.empty(value.T.shape, h5py.ref_dtype)
            for at, item in np.ndenumerate(value.T):
                key = f"r{len(refs)}"
                put(refs, key, item)
                held[at] = refs[key].ref
            group.create_dataset(name, data=held, dtype=h5py.ref_dtype)
        else:
            group.create_dataset(name, data=np.atleast_2d(value).T)

    with h5py.File(path, "w", userblock_size=512) as file:
        for name, value in values.items():
            put(file, name, value)
    content = bytearray(path.read_bytes())
    content[:128] = b"MATLAB 7.3 MAT-file".ljust(124) + struct.pack("<H2s", 0x0200, b"IM")
    path.write_bytes(content)
    return path
