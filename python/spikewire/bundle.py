"""The bundle `NAME.mub`: one reproducible zip that carries a decoder from workstation to board.

It holds `manifest.json`, the network as ONNX in one or more precisions, the front's filters, and
golden windows with each precision's outputs. Opening it verifies every hash; nothing is unpacked to
the disk and no framework is needed.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikewire.durable import write_durably
from spikewire.manifest import Manifest, check_manifest, read_manifest
from spikewire.moments import MARGIN, Moments, Places
from spikewire.signals import STEP, WINDOW, Floats, InputError, Labels, Span

MANIFEST = "manifest.json"
WEIGHTS = "weights.bin"  # of the native engine; see runtime/src/weights.h
KERNELS, SCALE, HEIGHT = "front/kernels.npy", "front/scale.npy", "front/height.npy"
LAGGED, MEANS, PLACES = "moments/lagged.npy", "moments/means.npy", "moments/places.npy"
LARGEST_FILE_BYTES = 256 << 20
GOLDEN_STEPS = 200
EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time a zip can hold: same inputs, same bytes


@dataclass(frozen=True)
class Bundle:
    """An opened, verified bundle.

    Attributes
    ----------
    path : str
    sha256 : str
        Of the whole file: two boards with the same value run the same decoder.
    files : dict of name -> bytes
    """

    path: str
    sha256: str
    manifest: Manifest
    files: dict[str, bytes]

    @property
    def labels(self) -> Labels:
        """Where the decided bin lies in the window."""
        return Labels(self.manifest.look_ahead)

    def array(self, name: str) -> NDArray[Any]:
        """One `.npy` member."""
        return load_array(self.files[name])

    def front(self) -> tuple[Floats, Floats] | None:
        """Kernels float32 (delays * channels, inputs) and scale float32 (inputs,), or None."""
        if not self.manifest.history_samples:
            return None
        return self.array(KERNELS), self.array(SCALE)

    def height(self) -> NDArray[np.float64]:
        """Median peak of each scaled filter output at a discharge: float64 (inputs,)."""
        return self.array(HEIGHT)

    def moments(self) -> Moments | None:
        """Of the training record, from which the filters can be solved again; or None."""
        if LAGGED not in self.files:
            return None
        lagged, means = (self.array(n).astype(np.float64) for n in (LAGGED, MEANS))
        return Moments(lagged, means, 0.0, np.ones(len(means)))

    def places(self) -> Places | None:
        """Where the channels lie on the grid, if that is known."""
        if PLACES not in self.files:
            return None
        row, column, ied = self.array(PLACES)
        return Places(row.astype(np.int64), column.astype(np.int64), float(ied[0]))


def fused_name(precision: str) -> str:
    """Member that holds the graph for GPUs in one precision."""
    return f"fused.{precision}.onnx"


def arm_id(bundles: Sequence[Bundle], channels: Sequence[Span | None] = ()) -> int:
    """What a controller must name to arm decoders of these bundles, in this order.

    Parameters
    ----------
    bundles : list of Bundle
    channels : for each bundle the channels of the source that it was put on, or None for all
        Swapped grids are another decoder.
    """
    spans = [*channels, *[None] * (len(bundles) - len(channels))]
    return zlib.crc32(b"".join(
        bytes.fromhex(b.sha256) + (b"" if span is None else b"@%d-%d" % (span[0], span[1] - 1))
        for b, span in zip(bundles, spans, strict=True)))


def load_array(content: bytes) -> NDArray[Any]:
    """Read an array that is held in memory; never unpickles."""
    return np.load(io.BytesIO(content), allow_pickle=False)


def save_array(array: NDArray[Any]) -> bytes:
    """Bytes of an `.npy` file."""
    out = io.BytesIO()
    np.save(out, array, allow_pickle=False)
    return out.getvalue()


def front_files(
    kernels: Floats, scale: Floats, height: NDArray[np.float64], moments: Moments,
    places: Places | None,
) -> dict[str, bytes]:
    """Files of a front: its filters, and what they are solved again from."""
    arrays: dict[str, NDArray[Any]] = {KERNELS: kernels, SCALE: scale, HEIGHT: height,
                                       LAGGED: moments.lagged.astype(np.float32),
                                       MEANS: moments.means.astype(np.float32)}
    if places:
        distance = np.full(len(places.row), places.ied_mm)
        arrays[PLACES] = np.stack([places.row, places.column, distance]).astype(np.float32)
    return {name: save_array(array) for name, array in arrays.items()}


def write_bundle(path: str | Path, manifest: Manifest, files: dict[str, bytes]) -> None:
    """Write manifest and files; the same content gives the same bytes."""
    hashes = {name: hashlib.sha256(files[name]).hexdigest() for name in sorted(files)}
    content = asdict(manifest) | {"hashes": hashes}
    text = json.dumps(content, indent=1, sort_keys=True, allow_nan=False).encode()

    def fill(file: Any) -> None:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            for name, data in [(MANIFEST, text), *sorted(files.items())]:
                info = zipfile.ZipInfo(name, EPOCH)
                info.external_attr = 0o644 << 16
                archive.writestr(info, data)

    write_durably(path, fill)


def _members(path: Path, content: bytes) -> dict[str, bytes]:
    """Files of the zip; a size or name that cannot be ours is refused before it is read."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            infos = archive.infolist()
            if len({i.filename for i in infos}) != len(infos):
                raise ValueError("a name appears twice")
            if any(i.compress_type != zipfile.ZIP_STORED for i in infos):
                raise ValueError("a member is compressed")
            return {i.filename: archive.read(i) for i in infos}
    except (zipfile.BadZipFile, ValueError, OSError, EOFError, NotImplementedError,
            RuntimeError) as error:
        raise InputError(
            f"{path}: not a readable bundle ({error}); copy or export it again"
        ) from None


def _arrays(m: Manifest, files: dict[str, bytes]) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Type and shape of every array that goes with a manifest."""
    wanted: dict[str, tuple[str, tuple[int, ...]]] = {}
    if m.history_samples:
        rows = (m.history_samples + 1) * len(m.channel_map)
        wanted = {KERNELS: ("float32", (rows, m.inputs)), SCALE: ("float32", (m.inputs,)),
                  HEIGHT: ("float64", (m.inputs,))}
        channels, lags = len(m.channel_map), m.history_samples + 1 + 2 * MARGIN
        if LAGGED in files:
            wanted |= {LAGGED: ("float32", (lags, channels, channels)),
                       MEANS: ("float32", (m.inputs, lags, channels))}
        if PLACES in files:
            wanted[PLACES] = ("float32", (3, channels))
    samples = m.history_samples + WINDOW + STEP * (GOLDEN_STEPS - 1)
    wanted["golden/emg.npy"] = ("int16", (samples, m.channels))
    presence = {f"golden/presence.{p}.npy": ("float32", (GOLDEN_STEPS, m.n_mu)) for p in m.networks}
    return wanted | presence


def _is_grid(places: Floats) -> bool:
    """Whether row, column (whole, below 256, each place once) and distance (mm) can be true."""
    row, column, ied = places
    whole = (places[:2] == np.rint(places[:2])).all() and places[:2].min() >= 0
    return bool(whole and places[:2].max() < 256 and len({*zip(row, column, strict=True)})
                == len(row) and (ied == ied[0]).all() and 0.5 <= ied[0] <= 100)


def _check(path: Path, bundle: Bundle) -> None:
    """Values must be possible, and fit each other, before anything runs on them."""
    m = bundle.manifest
    check_manifest(path, m)
    needed = {"golden/emg.npy"} | set(m.networks.values()) | {
        f"golden/presence.{p}.npy" for p in m.networks}
    if not m.networks or not needed <= set(bundle.files) or set(m.networks) != set(m.tolerance):
        raise InputError(f"{path}: its networks {sorted(m.networks)} lack a graph, a tolerance or "
                         "golden windows; export it again")
    if LAGGED in bundle.files and m.inputs != m.n_mu:
        raise InputError(f"{path}: moments of {m.inputs} filters for {m.n_mu} units; export it "
                         "again")
    for name, (kind, shape) in _arrays(m, bundle.files).items():
        array = bundle.array(name)
        if array.dtype != kind or array.shape != shape:
            raise InputError(f"{path}: {name} is {array.dtype} {array.shape}, must be {kind} "
                             f"{shape}; export it again")
        if not np.isfinite(array).all() or (name in (SCALE, HEIGHT) and not (array > 0).all()):
            raise InputError(f"{path}: {name} holds numbers that cannot be; export it again")
        if name == PLACES and not _is_grid(array):
            raise InputError(f"{path}: {name} is no grid of electrodes; export it again")


def read_bundle(path: str | Path) -> Bundle:
    """Open a bundle and verify every hash.

    Raises
    ------
    InputError
        Missing, empty, truncated or altered file, or a schema of another version.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such bundle")
    if not 0 < path.stat().st_size <= LARGEST_FILE_BYTES:
        raise InputError(f"{path}: {path.stat().st_size} bytes cannot be a bundle")
    content = path.read_bytes()
    files = _members(path, content)
    if MANIFEST not in files:
        raise InputError(f"{path}: has no {MANIFEST}; not a bundle")
    manifest = read_manifest(path, files.pop(MANIFEST))
    if not isinstance(manifest.hashes, dict) or set(files) != set(manifest.hashes):
        raise InputError(f"{path}: its files are not those of its manifest; copy it again")
    for name, data in files.items():
        if hashlib.sha256(data).hexdigest() != manifest.hashes[name]:
            raise InputError(f"{path}: {name} is damaged (sha256 differs); copy it again")
    bundle = Bundle(str(path), hashlib.sha256(content).hexdigest(), manifest, files)
    try:
        _check(path, bundle)
    except (KeyError, TypeError, AttributeError, ValueError, EOFError, MemoryError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: manifest and files do not fit ({error})") from None
    return bundle
