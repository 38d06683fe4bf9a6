"""Damaged files through every reader: accepted or one clear line, within bounds of memory and time.

    python benchmarks/fuzz_files.py 100000 [FORMAT ...]    # docs/reports/fuzz_files.json

A mutation flips, overwrites, cuts or repeats bytes, also inside what is packed, and of some tars
the checksums are put right again, so that their content is reached. Whatever ends in anything but
InputError is kept in build/fuzz and makes the program fail.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import resource
import signal
import sys
import tempfile
import time
import warnings
import zipfile
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import NoReturn

import numpy as np

ROOT = Path(__file__).parent.parent
REPORT = ROOT / "docs/reports/fuzz_files.json"
sys.path.insert(0, str(ROOT / "tests"))

from containers import GR, device_xml, matlab73, otb4, otb_plus, tar, track_xml  # noqa: E402

from spikewire.io import mat73, read_recording, read_trains  # noqa: E402
from spikewire.signals import InputError  # noqa: E402

MOST_MB, MOST_CPU_S, HANGS_S, LONGEST_MESSAGE = 400, 20, 120, 1000
EXTREMES = (b"\0\0\0\0", b"\xff" * 4, b"\xff\xff\xff\x7f", b"\0\0\0\x80", b"\1\0\0\0", b"\xff" * 8,
            b"99999999", b"-1", b"nan", b"1e308", b"\0" * 16)
RNG = np.random.default_rng(0)
EMG = RNG.normal(0, 80, (600, 8))
TIMES = [np.arange(20, 580, 41), np.arange(30, 580, 57)]


def cells(values: list[object]) -> np.ndarray:
    out = np.empty((1, len(values)), object)
    for k, value in enumerate(values):
        out[0, k] = value
    return out


def muedit() -> dict[str, object]:
    return {"signal": {"data": EMG.T, "fsamp": 2048.0, "gridname": cells(["a"]),
                       "Pulsetrain": cells([np.zeros((2, 600))]),
                       "Dischargetimes": cells([t[None] + 1.0 for t in TIMES])}}


def demuse() -> dict[str, object]:
    grid = np.empty((4, 2), object)
    for k in range(8):
        grid[k % 4, k // 4] = EMG[:, k][None]
    return {"SIG": grid, "fsamp": 2048.0, "IED": 8.0, "MUPulses": cells([t + 1 for t in TIMES])}


def export() -> dict[str, object]:
    names = [f"{GR} ({k + 1})[uV]" for k in range(6)] + [
        f"Decomposition of {GR} (1)[a.u]", f"Source for decomposition of {GR} (1)[a.u]"]
    return {"Data": cells([EMG]), "Description": cells(names), "SamplingFrequency": 2048.0}


def mat(content: dict[str, object], packed: bool) -> bytes:
    from scipy.io import savemat

    out = io.BytesIO()
    savemat(out, content, do_compression=packed)
    return out.getvalue()


def npz(**arrays: object) -> bytes:
    out = io.BytesIO()
    np.savez_compressed(out, **arrays)
    return out.getvalue()


def edf(end: str) -> bytes:
    import edfio

    signal, whole = (edfio.EdfSignal, edfio.Edf) if end == "edf" else (edfio.BdfSignal, edfio.Bdf)
    return whole([signal(EMG[:, k], 2000, label=f"c{k}", physical_dimension="uV")
                  for k in range(4)], data_record_duration=0.1).to_bytes()


def by_file(make: Callable[[Path], object]) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "seed"
        make(path)
        return path.read_bytes()


def openhdemg() -> bytes:
    import json

    data = {"columns": list(range(8)), "index": list(range(600)), "data": EMG.round(2).tolist()}
    return json.dumps({"SOURCE": '"OTB"', "RAW_SIGNAL": json.dumps(data), "FSAMP": "2048.0",
                       "IED": "8.0", "MUPULSES": json.dumps([t.tolist() for t in TIMES])}).encode()


def zipped(content: bytes) -> bytes:
    """An old `.otb`, whose signal or sheet is `content`; told apart by how it begins."""
    counts = np.round(EMG / 0.5).astype("<i2").tobytes()
    sheet = device_xml("MUOVI+", [("AD", GR, 8, "a")])
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.sig", counts)
        archive.writestr("a.xml", content or sheet)
    return out.getvalue()


def array_zipped(content: bytes) -> bytes:
    """An `.npz` of ours whose `emg` is `content`, checksums right."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("emg.npy", content)
        for name, value in (("fs_hz", 2048.0), ("unit", "uV")):
            held = io.BytesIO()
            np.save(held, value)
            archive.writestr(f"{name}.npy", held.getvalue())
    return out.getvalue()


def npy(value: np.ndarray) -> bytes:
    out = io.BytesIO()
    np.save(out, value)
    return out.getvalue()


def tracks(path: Path) -> Path:
    held = np.round(EMG / 0.5).astype("<i2")
    return otb4(path, [track_xml("Grid", 6, "s.sig", 0, gain=256, volts=4.8),
                       track_xml("Ramp", 2, "s.sig", 6, control=True)], {"s.sig": held})


def with_checksums(content: bytes) -> bytes:
    """A tar whose headers add up again."""
    out, at = bytearray(content), 0
    while at + 512 <= len(out) and any(out[at : at + 512]):
        total = sum(out[at : at + 148]) + 8 * 32 + sum(out[at + 156 : at + 512])
        out[at + 148 : at + 156] = b"%06o\0 " % total
        try:
            size = int(bytes(out[at + 124 : at + 135]), 8)
        except ValueError:
            break
        at += 512 + -(-max(size, 0) // 512) * 512
    return bytes(out)


def same(content: bytes) -> bytes:
    return content


# Format -> end of the name, seeds, and what is done to the damaged bytes: they lie inside it.
Pack = Callable[[bytes], bytes]
FORMATS: dict[str, tuple[str, Callable[[], list[tuple[bytes, Pack]]]]] = {
    "npz": (".npz", lambda: [
        (npz(emg=EMG, fs_hz=2048.0, unit="uV", sample=TIMES[0], unit_=TIMES[0]), same),
        (npz(sample=TIMES[0], unit=TIMES[0] * 0, n_units=1, fs_hz=2048.0), same),
        (npy(EMG.astype("f4")), array_zipped)]),
    "muedit npz": (".npz", lambda: [(npz(
        pulse_trains=np.zeros((2, 600)), discharge_times=np.stack([t[:9] for t in TIMES]),
        fsamp=2048), same)]),
    "otb mat": (".mat", lambda: [(mat(export(), True), same), (mat(export(), False), same)]),
    "muedit mat": (".mat", lambda: [(mat(muedit(), True), same), (mat(muedit(), False), same)]),
    "demuse mat": (".mat", lambda: [(mat(demuse(), True), same), (mat(demuse(), False), same)]),
    "otb+": (".otb+", lambda: [
        (by_file(lambda p: otb_plus(p, np.round(EMG / 0.5))), same),
        (by_file(lambda p: otb_plus(p, np.round(EMG / 0.5))), with_checksums),
        (device_xml("MUOVI+", [("AD", GR, 8, "a")]), lambda c: by_file(
            lambda p: tar(p, {"a.sig": bytes(9600), "a.xml": c})))]),
    "otb": (".otb", lambda: [(zipped(b""), same),
                             (device_xml("MUOVI+", [("AD", GR, 8, "a")]), zipped)]),
    "otb4": (".otb4", lambda: [(by_file(tracks), same), (by_file(tracks), with_checksums)]),
    "openhdemg": (".json", lambda: [(gzip.compress(openhdemg()), same), (openhdemg(), same),
                                    (openhdemg(), lambda c: gzip.compress(c, 1))]),
    "edf": (".edf", lambda: [(edf("edf"), same)]),
    "bdf": (".bdf", lambda: [(edf("bdf"), same)]),
    "events": ("_events.tsv", lambda: [(
        b"onset\tsample\tunit_id\n" + b"".join(b"%g\t%d\t%d\n" % (t / 2048, t, k)
                                               for k, u in enumerate(TIMES) for t in u), same)]),
    "csv": (".csv", lambda: [(b"# fs_hz=2048 unit=uV\n" + b"".join(
        b"%g,%g,%g\n" % tuple(row[:3]) for row in EMG[:80]), same)]),
    "mat 7.3": (".mat", lambda: [(by_file(lambda p: matlab73(p, muedit())), same)]),
}
CRASHES = [0]  # of the HDF5 library: what its process is for


LIVES = 100  # files for one process: it may use LONGEST_S of CPU time in all


class Reader:
    """Stands in for `mat73.run_child`: a process for a hundred files, not one for each."""

    def __init__(self) -> None:
        self._pid, self._lives = 0, 0

    def __call__(self, path: Path, wanted: list[str]) -> bytes:
        if not self._lives:
            self._begin()
        self._lives -= 1
        self._to.write(json.dumps([str(path), wanted]).encode() + b"\n")
        self._to.flush()
        head = self._of.readline()
        if not head.endswith(b"\n"):  # it is gone
            self._lives = 0
            CRASHES[0] += os.WIFSIGNALED(self.close())
            raise ValueError("HDF5")
        size = int(head)
        if size < 0:
            raise ValueError("HDF5")
        return self._of.read(size)

    def close(self) -> int:
        """Let the process go, if there is one; how it ended."""
        if not self._pid:
            return 0
        with suppress(BrokenPipeError):
            self._to.close()
        self._of.close()
        status = os.waitpid(self._pid, 0)[1]
        self._pid = 0
        return status

    def _begin(self) -> None:
        self.close()
        (ask, to), (of, answer) = os.pipe(), os.pipe()
        self._pid, self._lives = os.fork(), LIVES
        if not self._pid:
            os.close(to)
            os.close(of)
            serve(open(ask, "rb"), open(answer, "wb"))
        os.close(ask)
        os.close(answer)
        self._to, self._of = open(to, "wb"), open(of, "rb")


def serve(ask: io.BufferedReader, answer: io.BufferedWriter) -> NoReturn:
    """The child: read what is named, until nobody asks."""
    for line in ask:
        path, wanted = json.loads(line)
        found = io.BytesIO()
        try:
            mat73.main(path, wanted, found)
            answer.write(b"%d\n" % found.tell() + found.getvalue())
        except BaseException:
            answer.write(b"-1\n")
        answer.flush()
    os._exit(0)


def damaged(content: bytes, rng: np.random.Generator) -> bytes:
    """One to four mutations; headers, which lie in front, are hit more often."""
    out = bytearray(content)
    for _ in range(int(rng.integers(1, 5))):
        size = max(len(out), 1)
        at = int(size * rng.random() ** rng.choice((1, 4)))
        match rng.integers(6):
            case 0:
                out[at : at + 1] = bytes([(out[at] if at < len(out) else 0) ^ 1 << int(
                    rng.integers(8))])
            case 1:
                out[at : at + 1] = bytes([int(rng.integers(256))])
            case 2:
                patch = EXTREMES[int(rng.integers(len(EXTREMES)))]
                out[at : at + len(patch)] = patch
            case 3:
                del out[at : at + int(rng.integers(1, 40))]
            case 4:
                out[at:at] = out[at : at + int(rng.integers(1, 600))]
            case _:
                if rng.random() < 0.2:
                    del out[at:]
    return bytes(out)


def peak_mb() -> float:
    """Most memory this process ever held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def once(path: Path) -> bool:
    """Read a file as both kinds; whether either was accepted."""
    accepted = False
    for read in (lambda: read_recording(path, any_rms=True),
                 lambda: read_recording(path, any_rms=True, unit="uV"), lambda: read_trains(path)):
        try:
            read()
            accepted = True
        except InputError as error:
            if len(str(error)) > LONGEST_MESSAGE:
                raise AssertionError(f"a message of {len(str(error))} letters") from error
    return accepted


def fuzz(name: str, count: int, seed: int = 1) -> dict[str, float]:
    """Counts of one format; raises whatever a reader raises, the file being kept."""
    end, make = FORMATS[name]
    reader = Reader()
    seeds, rng = make(), np.random.default_rng(seed)
    if name == "mat 7.3":
        import h5py  # noqa: F401

        mat73.run_child = reader
    accepted, slowest = 0, 0.0
    with closing(reader), tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("error")
        path = Path(folder) / f"f{end}"
        for content, pack in seeds:  # a seed that is not read finds nothing
            path.write_bytes(pack(content))
            assert once(path), f"{name}: its seed is not readable"
        for k in range(count):
            content, pack = seeds[k % len(seeds)]
            path.write_bytes(pack(damaged(content, rng)))
            before, began = peak_mb(), time.process_time()
            signal.alarm(HANGS_S)
            try:
                accepted += once(path)
                took, grown = time.process_time() - began, peak_mb() - before
                assert took <= MOST_CPU_S, f"{took:.0f} s"
                assert grown <= MOST_MB, f"{grown:.0f} MB"
            except BaseException:
                kept = ROOT / "build" / "fuzz" / f"{name.replace(' ', '_')}_{k}{end}"
                kept.parent.mkdir(parents=True, exist_ok=True)
                kept.write_bytes(path.read_bytes())
                print(f"{name}: mutation {k} is kept as {kept}", file=sys.stderr)
                raise
            finally:
                signal.alarm(0)
            slowest = max(slowest, took)
    return {"accepted": accepted, "refused": count - accepted,
            "slowest_s": slowest, "peak_mb": peak_mb()}


def main(count: int, names: list[str]) -> int:
    """Fuzz each format; its row of the report is written when it is done."""
    for name in names or FORMATS:
        CRASHES[0] = 0
        got = fuzz(name, count)
        row = {"files": count, **{k: round(v, 3) for k, v in got.items()},
               "library_crashes": CRASHES[0]}
        rows = json.loads(REPORT.read_text()) if REPORT.exists() else {}
        REPORT.write_text(json.dumps(rows | {name: row}, indent=1) + "\n")
        print(f"{name:11s} {json.dumps(row)}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2:]))
