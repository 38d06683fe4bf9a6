"""Opening an engine. Truth: the golden presences of the shared bundle, computed by numpy loops."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from spikewire.bundle import Bundle, read_bundle, save_array
from spikewire.runtime import engine as engines
from spikewire.runtime import engine_native
from spikewire.runtime.engine import check_golden, open_engine
from spikewire.signals import InputError

pytest.importorskip("onnxruntime")

FILES = {"presence": "golden/presence.fp32.npy", "emg": "golden/emg.npy",
         "kernels": "front/kernels.npy"}


@pytest.fixture(scope="module")
def bundle(bundle_path: Path) -> Bundle:
    return read_bundle(bundle_path)


def with_files(bundle: Bundle, **arrays: np.ndarray) -> Bundle:
    """The bundle with some arrays replaced; its hashes were checked before."""
    files = {FILES[name]: save_array(array) for name, array in arrays.items()}
    return replace(bundle, files={**bundle.files, **files})


def test_auto_takes_the_library_where_it_is(bundle: Bundle, monkeypatch, tmp_path: Path) -> None:
    there = engine_native.LIBRARY.is_file()
    assert open_engine(bundle).name.startswith("native (" if there else "ort (")
    files = {k: v for k, v in bundle.files.items() if k != "weights.bin"}
    assert open_engine(replace(bundle, files=files)).name == "ort (CPU, fp32)"
    monkeypatch.setattr(engine_native, "LIBRARY", tmp_path / "none.so")
    assert open_engine(bundle).name == "ort (CPU, fp32)"


@pytest.mark.parametrize("name", ["auto", "ort"])
def test_an_engine_is_proven_and_reset(bundle: Bundle, name: str) -> None:
    engine = open_engine(bundle, name)
    assert not engine.ready
    assert check_golden(engine, bundle, "fp32") <= 1e-4


@pytest.mark.parametrize("name", ["", "TensorRT", "ORT", "null "])
def test_an_unknown_engine_is_one_clear_error(bundle: Bundle, name: str) -> None:
    with pytest.raises(InputError, match="allowed are auto, native, ort") as caught:
        open_engine(bundle, name)
    assert repr(name) in str(caught.value)


def test_an_absent_precision_is_one_clear_error(bundle: Bundle) -> None:
    with pytest.raises(InputError, match="holds no fp16 network for engine ort, it has fp32"):
        open_engine(bundle, "ort", precision="fp16")


def test_a_missing_package_says_what_to_type(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(engines.ENGINES, "ort",
                        ("spikewire.runtime.engine_ort", "open_engine", ("no_such_module",)))
    with pytest.raises(InputError, match=r"needs no_such_module.*pip install 'spikewire\[ort\]'"):
        open_engine(bundle, "ort")


def test_a_provider_that_does_not_run_is_no_silent_fallback(bundle: Bundle) -> None:
    ort = pytest.importorskip("onnxruntime")
    if "CUDAExecutionProvider" in ort.get_available_providers():
        pytest.skip("this ONNX Runtime has CUDA")
    with pytest.raises(InputError, match="CUDAExecutionProvider was asked for and does not"):
        open_engine(bundle, "ort-cuda")


def test_a_provider_that_falls_back_is_refused(bundle: Bundle, monkeypatch) -> None:
    """A CUDA build whose libraries are missing says nothing and runs on the CPU."""
    ort = pytest.importorskip("onnxruntime")
    real = ort.InferenceSession
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    monkeypatch.setattr(ort, "InferenceSession", lambda model, options, providers: real(
        model, options, ["CPUExecutionProvider"]))
    with pytest.raises(InputError, match="CUDAExecutionProvider was asked for and does not"):
        open_engine(bundle, "ort-cuda")


@pytest.mark.parametrize(("there", "words"), [
    ((), "needs tensorrt, which is not installed; it comes with JetPack"),
    (("tensorrt",), r"needs cuda, which is not installed; type: pip install 'spikewire\[tensorr"),
])
def test_tensorrt_needs_two_packages_of_two_origins(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, there: tuple[str, ...], words: str
) -> None:
    monkeypatch.setattr(engines.util, "find_spec", lambda name: name if name in there else None)
    with pytest.raises(InputError, match=words):
        open_engine(replace(bundle), "tensorrt")


def golden(bundle: Bundle) -> np.ndarray:
    return bundle.array("golden/presence.fp32.npy")


def excerpt(bundle: Bundle) -> np.ndarray:
    return bundle.array("golden/emg.npy")


def shifted(values: np.ndarray, by: float, at: tuple[int, int]) -> np.ndarray:
    values = values.copy()
    values[at] += by
    return values


ALTERED: dict[str, Callable[[Bundle], Bundle]] = {
    "first window": lambda b: with_files(
        b, presence=shifted(golden(b), 2e-3, (0, 0))),
    "last window": lambda b: with_files(
        b, presence=shifted(golden(b), -2e-3, (-1, -1))),
    "NaN": lambda b: with_files(
        b, presence=shifted(golden(b), np.nan, (7, 1))),
    "other filters": lambda b: with_files(b, kernels=b.array("front/kernels.npy") * 1.01),
    "one step late": lambda b: with_files(b, emg=np.roll(excerpt(b), 20, axis=0)),
}


@pytest.mark.parametrize("name", ["auto", "ort"])
@pytest.mark.parametrize("how", ALTERED)
def test_what_differs_from_the_golden_windows_is_refused(
    bundle: Bundle, how: str, name: str
) -> None:
    altered = ALTERED[how](bundle)
    with pytest.raises(InputError, match="differs from the golden windows"):
        open_engine(altered, name)


@pytest.mark.parametrize("name", ["golden/emg.npy", "golden/presence.fp32.npy"])
@pytest.mark.parametrize("change", [lambda a: a[:-1], lambda a: a[:, :-1], lambda a: a[:0], None])
def test_golden_arrays_of_other_shapes_are_refused(
    bundle: Bundle, name: str, change: Callable[[np.ndarray], np.ndarray] | None
) -> None:
    files = dict(bundle.files)
    del files[name]
    if change:
        files[name] = save_array(change(bundle.array(name)))
    with pytest.raises(InputError, match="has shape"):
        open_engine(replace(bundle, files=files))
