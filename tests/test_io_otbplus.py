"""`.otb+` and `.otb4` made by hand with a known number of counts.

The microvolts per count are OT Bioelettronica's (protocol sheets, OTB-Matlab): 5 V / 2^16 / 150 for
a Quattrocento, 4.8 V / 2^16 / 256 for Sessantaquattro+ and Muovi, 3.3 V / 2^16 / 202 for DUE+. They
stand here as decimal numbers, not as the reader's formula.
"""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from containers import GR, device_xml, otb4, otb_plus, tar, track_xml

from spikewire.io import read_recording, read_trains
from spikewire.io.source import open_source
from spikewire.runtime.clock import MonotonicClock
from spikewire.signals import InputError

SHEET_UV = {"QUATTROCENTO": 0.50863, "SESSANTAQUATTRO+": 0.28610, "MUOVI": 0.28610,
            "MUOVI+": 0.28610, "DUE+": 0.24928}


def ramp(channels: int = 66, samples: int = 4096, dtype: str = "<i2") -> np.ndarray:
    """Counts that name their own place: a ramp in time, an offset for each channel."""
    return (np.arange(samples)[:, None] % 2000 - 1000 + 10 * np.arange(channels)).astype(dtype)


@pytest.mark.parametrize("gain", ["1", None])
@pytest.mark.parametrize("suffix", ["", ";3.1"])
@pytest.mark.parametrize("name", SHEET_UV)
def test_microvolts_are_the_vendors(
    tmp_path: Path, name: str, suffix: str, gain: str | None
) -> None:
    """1000 counts, which public readers make 0.96 to 1/267 of this, by `;` and gains in the XML."""
    counts = np.full((4096, 66), 1000)
    counts[::2] = -1000
    path = otb_plus(tmp_path / "r.otb+", counts, name + suffix, channel_gain=gain)
    r = read_recording(path)
    assert r.emg.shape == (4096, 64)
    np.testing.assert_allclose(np.abs(r.emg), 1000 * SHEET_UV[name], rtol=1e-4)
    assert r.lsb_uv == pytest.approx(SHEET_UV[name], rel=1e-4)
    assert r.stored == "int16"


def test_every_column_is_in_its_place(tmp_path: Path) -> None:
    counts = ramp()
    r = read_recording(otb_plus(tmp_path / "r.otb+", counts))
    np.testing.assert_allclose(r.emg, counts[:, :64] * 0.508626302, rtol=1e-5, atol=1e-3)
    assert (r.fs_hz, r.ied_mm) == (2048.0, 8.0)
    assert (r.grid_row[0], r.grid_col[0]) == (1, 0)
    assert any("2 of AdapterControl" in w for w in r.ignored)
    assert "track.sip" in r.ignored


def test_of_several_grids_one_is_chosen(tmp_path: Path) -> None:
    adapters = [("AD1x16", "CH", 16, "Soleus"), ("AD1x64", GR, 64, "Vastus"),
                ("Direct connection", "AUX 1", 2, ""), ("AdapterControl", "Ramp", 2, "")]
    counts = ramp(84)
    path = otb_plus(tmp_path / "r.otb+", counts, adapters=adapters)
    with pytest.raises(InputError, match=r"holds 2 grids \(1 = CH Soleus.*r.otb\+#1.*r.otb\+#all"):
        read_recording(path)
    lsb = 0.508626302
    np.testing.assert_allclose(read_recording(f"{path}#2").emg, counts[:, 16:80] * lsb, rtol=1e-5,
                               atol=1e-3)
    both = read_recording(f"{path}#all")
    assert both.emg.shape[1] == 80
    assert both.grid_row is None
    source = open_source(f"replay:{path}#2?span=0:1", MonotonicClock())
    assert source.channels == 64
    for wrong in ("3", "0", "x"):
        with pytest.raises(InputError, match="has no grid"):
            read_recording(f"{path}#{wrong}")


def test_probes_behind_a_syncstation_keep_their_scale(tmp_path: Path) -> None:
    adapters = [("Muovi+", GR, 64, "a"), ("Due+", "CH", 2, "b")]
    path = otb_plus(tmp_path / "r.otb+", np.full((4096, 66), 1000), "SYNCSTATION", adapters)
    r = read_recording(f"{path}#all", any_rms=True)
    np.testing.assert_allclose(r.emg[0, [0, 65]], [286.10, 249.28], rtol=1e-4)


def test_an_old_zip_holds_the_same(tmp_path: Path) -> None:
    counts = ramp()
    new = otb_plus(tmp_path / "r.otb+", counts)
    with tarfile.open(new) as source, zipfile.ZipFile(tmp_path / "r.otb", "w") as old:
        for member in source:
            old.writestr(member.name, source.extractfile(member).read())
    np.testing.assert_array_equal(read_recording(tmp_path / "r.otb").emg, read_recording(new).emg)


@pytest.mark.parametrize(("facts", "words"), [
    ({"name": "BRAINBOX"}, "amplifier 'BRAINBOX' has no known scale, known are QUATTROCENTO"),
    ({"bits": 24}, "ad_bits is 24, the scale is known for 16 only"),
    ({"channel_gain": "7"}, "gain other than 1 and 150"),
    ({"fs": 0}, "SampleFrequency of Device is '0'"),
    ({"adapters": [("AdapterControl", "Ramp", 66, "")]}, "holds no electrodes"),
    ({"adapters": [("AD", "CH", 5000, "")]}, "DeviceTotalChannels"),
])
def test_what_has_no_known_scale_is_refused(
    tmp_path: Path, facts: dict[str, object], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        read_recording(otb_plus(tmp_path / "r.otb+", ramp(), **facts))


def test_the_rest_of_a_cut_signal_is_named(tmp_path: Path) -> None:
    content = ramp().tobytes()[:-7]
    path = tar(tmp_path / "r.otb+", {"a.sig": content, "a.xml": device_xml(
        "QUATTROCENTO", [("AD", "CH", 66, "")])})
    r = read_recording(path, any_rms=True)
    assert len(r.emg) == 4095
    assert any("bytes at the end" in w for w in r.ignored)


def sine(channels: int, lsb_uv: float, dtype: str) -> tuple[np.ndarray, np.ndarray]:
    """A sine of 300 uV at 80 Hz, and the counts a converter makes of it."""
    t = np.arange(4000) / 2000
    wave = 300 * np.sin(2 * np.pi * 80 * t)[:, None] * np.linspace(0.5, 1, channels)
    return wave, np.round(wave / lsb_uv).astype(dtype)


def test_otb4_of_16_bits_starts_at_its_acquisition_channel(tmp_path: Path) -> None:
    """4.8 V / 2^16 / 256 = 0.28610 uV, whether the file calls the value mV, uV or V."""
    wave, counts = sine(64, 0.2861022949, "<i2")
    for unit, factor in (("mV", 1000.0), ("uV", 1e6), ("V", 1.0)):
        signal = np.zeros((4000, 72), "<i2")
        signal[:, 4:68] = counts
        tracks = [track_xml("AUX", 4, "data.sig", 0, unit=unit, factor=factor),
                  track_xml("Grid", 64, "data.sig", 4, gain=256, volts=4.8, unit=unit,
                            factor=factor),
                  track_xml("Quaternion", 4, "data.sig", 68, unit="", control=True)]
        r = read_recording(otb4(tmp_path / "r.otb4", tracks, {"data.sig": signal}))
        np.testing.assert_allclose(r.emg, wave, atol=0.15)
        assert r.lsb_uv == pytest.approx(0.28610, rel=1e-4)
        assert (r.fs_hz, r.ied_mm) == (2000.0, 8.0)
        assert any("TrapezoidalTracks" in w for w in r.ignored)


def test_otb4_of_a_novecento_starts_at_its_offset_in_words_of_32_bits(tmp_path: Path) -> None:
    wave, counts = sine(32, 0.2861022949 / 256, "<i4")
    stream = np.zeros((4000, 34), "<i4")
    stream[:, 2:] = counts
    facts = {"device": "Novecento+", "bits": 24, "gain": 256.0, "volts": 4.8}
    tracks = [track_xml("IN1", 32, "s1.sig", 7, 2, sensor="HD04MM0804", **facts),
              track_xml("Accessory", 2, "s1.sig", 0, 0, control=True, **facts),
              track_xml("IN2", 32, "s2.sig", 99, 2, **facts),
              track_xml("Accessory", 2, "s2.sig", 0, 0, control=True, **facts)]
    path = otb4(tmp_path / "r.otb4", tracks, {"s1.sig": stream, "s2.sig": stream * 2})
    r = read_recording(f"{path}#1")
    np.testing.assert_allclose(r.emg, wave, atol=0.01)
    assert (r.ied_mm, r.stored) == (4.0, "int32")
    np.testing.assert_allclose(read_recording(f"{path}#2").emg, 2 * wave, atol=0.01)
    assert read_recording(f"{path}#all").emg.shape[1] == 64


@pytest.mark.parametrize(("track", "words"), [
    ({"channels": 99}, "lies beyond the 64 channels"),
    ({"acquisition": 5}, "lies beyond the 64 channels"),
    ({"gain": 0.0}, "Gain of track 'Grid' is '0.0'"),
    ({"bits": 99}, "ADC_Nbits"),
    ({"volts": float("nan")}, "ADC_Range"),
    ({"unit": "kg"}, "no track of its 1 is EMG"),
    ({"signal": "../../etc/passwd"}, "holds no signal"),
    ({"channels": 10**9}, "NumberOfChannels"),
])
def test_otb4_tracks_that_do_not_fit_are_refused(
    tmp_path: Path, track: dict[str, object], words: str
) -> None:
    facts = {"title": "Grid", "channels": 64, "signal": "data.sig"} | track
    more = "<TotalChannelsInFile>64</TotalChannelsInFile>"
    path = otb4(tmp_path / "r.otb4", [track_xml(**facts, more=more)],
                {"data.sig": ramp(64)})
    with pytest.raises(InputError, match=words):
        read_recording(path)


BILLION = b'<!DOCTYPE d [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]><d>&b;</d>'
EXTERNAL = b'<!DOCTYPE d [<!ENTITY x SYSTEM "file:///etc/passwd">]><d>&x;</d>'


@pytest.mark.parametrize(("sheet", "words"), [
    (BILLION, "document type"), (EXTERNAL, "document type"),
    (b"<!DOCTYPE d><d/>", "document type"), (b"", "not readable XML"), (b"<d>", "not readable XML"),
    (b"<d>" * 5000, "too many elements"), (b"<d>" + b"<e/>" * 300_000 + b"</d>", "too many"),
    (b'<?xml version="1.0" encoding="none-such"?><d/>', "not readable XML"), (b"\0\xff", "XML"),
])
def test_hostile_xml_is_refused(tmp_path: Path, sheet: bytes, words: str) -> None:
    plus = tar(tmp_path / "r.otb+", {"a.sig": b"0" * 64, "a.xml": sheet})
    four = tar(tmp_path / "r.otb4", {"a.sig": b"0" * 64, "Tracks_000.xml": sheet})
    for path in (plus, four):
        with pytest.raises(InputError, match=words):
            read_recording(path)


def test_hostile_archives_are_refused(tmp_path: Path) -> None:
    good = otb_plus(tmp_path / "good.otb+", ramp()).read_bytes()
    path = tmp_path / "r.otb+"
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.sig", bytes(400 << 20))
    huge = bytearray(good)
    huge[124:136] = b"77777777777\0"  # the size of the first member
    huge[148:156] = b"%06o\0 " % (sum(huge[:148]) + 8 * 32 + sum(huge[156:512]))
    backwards = bytearray(huge)
    backwards[124:136] = b"\xff" * 10 + b"\0\0"  # a negative size
    backwards[148:156] = b"%06o\0 " % (sum(backwards[:148]) + 8 * 32 + sum(backwards[156:512]))
    for content, words in ((b"", "empty"), (b"x" * 3000, "not a readable"), (good[:700], "r.otb"),
                           (bytes(4096), "holds no electrodes|not a readable"),
                           (bomb.getvalue(), "unpacks to more than"), (bytes(huge), "r.otb"),
                           (bytes(backwards), "not a readable")):
        path.write_bytes(content)
        with pytest.raises(InputError, match=words):
            read_recording(path)


def test_links_and_paths_in_an_archive_touch_nothing(tmp_path: Path) -> None:
    path = tmp_path / "r.otb+"
    with tarfile.open(path, "w") as archive:
        link = tarfile.TarInfo("a.sig")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
        outside = tarfile.TarInfo("../../outside.sig")
        outside.size = 4
        archive.addfile(outside, io.BytesIO(b"evil"))
    with pytest.raises(InputError, match="has no"):
        read_recording(path)
    assert [p.name for p in tmp_path.iterdir()] == ["r.otb+"]
    with pytest.raises(InputError, match="no spike trains"):
        read_trains(path)
