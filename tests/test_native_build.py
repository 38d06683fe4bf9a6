"""The C++ library as others build it: with CMake, in C, under sanitizers, and for aarch64.

What a board computes is compared with what this machine computes, under emulation.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from test_runtime_engine_native import SHAPES, arrays

from spikewire.runtime.engine_native import LIBRARY, PRECISIONS
from spikewire.signals import STEP, WINDOW
from spikewire.weights import weights_bin

ROOT = Path(__file__).parents[1]
NEWEST = {"GLIBC": (2, 31), "GLIBCXX": (3, 4, 30)}  # on Ubuntu 22.04, that of JetPack 6
STEPS = 220

pytestmark = [
    pytest.mark.skipif(not (shutil.which("cmake") and shutil.which("g++")),
                       reason="needs CMake and g++"),
    pytest.mark.timeout(400),
]
CROSS = pytest.mark.skipif(
    not (shutil.which("aarch64-linux-gnu-g++") and shutil.which("qemu-aarch64-static")),
    reason="needs: apt install g++-aarch64-linux-gnu qemu-user-static")


def build(folder: Path, *options: str, source: Path = ROOT) -> Path:
    """Configure and build; warnings are errors."""
    for command in (["cmake", "-S", str(source), "-B", str(folder), *options],
                    ["cmake", "--build", str(folder), "--parallel", "2"]):
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return folder


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("here"), "-DSPW_TESTS=ON")


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """For every shape a folder that `replay` reads."""
    found = {}
    for name, shape in SHAPES.items():
        folder = found[name] = tmp_path_factory.mktemp("case")
        rng = np.random.default_rng(21)
        inputs = shape.units if shape.delays else shape.channels
        windows = rng.normal(0, 1, (20, WINDOW, inputs)).astype(np.float32)
        (folder / "weights.bin").write_bytes(
            weights_bin(arrays(shape, rng), inputs, shape.bin_start, windows))
        numbers = [shape.units, inputs, shape.bin_start, shape.channels, shape.channels,
                   shape.delays, *range(shape.channels)]
        rows = shape.delays * shape.channels
        for file, array in {
            "numbers": np.array(numbers, np.int32), "scale": np.ones(inputs, np.float32),
            "kernels": rng.normal(0, max(rows, 1) ** -0.5, (rows, inputs)).astype(np.float32),
            "emg": rng.normal(0, 1, (STEPS * STEP, shape.channels)).astype(np.float32),
        }.items():
            (folder / file).write_bytes(array.tobytes())
    return found


def replay(build: Path, case: Path, precision: str, cpu: int, *emulator: str) -> np.ndarray:
    """Rows of presences, then positions."""
    command = [*emulator, str(build / "replay"), str(case), str(PRECISIONS.index(precision)),
               str(cpu)]
    done = subprocess.run(command, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    units = int(np.frombuffer((case / "numbers").read_bytes(), np.int32)[0])
    return np.frombuffer(done.stdout, np.float32).reshape(-1, 2, units)


def symbol_versions(library: Path, nm: str = "nm") -> dict[str, tuple[int, ...]]:
    """The newest version of each family of symbols that a library needs."""
    said = subprocess.run([nm, "-D", "--undefined-only", str(library)], capture_output=True,
                          text=True, check=True).stdout
    newest: dict[str, tuple[int, ...]] = {}
    for family, version in re.findall(r"@(GLIBC|GLIBCXX)_([0-9.]+)", said):
        numbers = tuple(int(n) for n in version.split("."))
        newest[family] = max(newest.get(family, ()), numbers)
    return newest


@CROSS
def test_aarch64_says_what_x86_says(
    here: Path, cases: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """200 steps and more of every shape in every precision; what was linked is old enough."""
    there = build(tmp_path_factory.mktemp("there"), "-DSPW_TESTS=ON",
                  f"-DCMAKE_TOOLCHAIN_FILE={ROOT}/runtime/toolchains/aarch64-linux-gnu.cmake")
    emulator = ("qemu-aarch64-static", "-L", "/usr/aarch64-linux-gnu")

    def compare(case: Path, precision: str) -> None:
        one = replay(here, case, precision, 0)
        for cpu in (0, 1):  # with dot products of bytes, and without
            other = replay(there, case, precision, cpu, *emulator)
            assert len(one) >= 200
            # A sum that lies between two bytes may be rounded to either.
            allowed = 2e-2 if precision == "int8-all" else 1e-6
            assert np.abs(one[:, 0] - other[:, 0]).max() <= allowed
            assert (one[:, 1] != other[:, 1]).mean() < (
                5e-2 if precision == "int8-all" else 1e-3)  # ties of equal logits

    with ThreadPoolExecutor(2) as two:
        for done in [two.submit(compare, *what) for what in product(cases.values(), PRECISIONS)]:
            done.result()
    found = symbol_versions(there / "libspikewire.so", "aarch64-linux-gnu-nm")
    assert all(found[family] <= most for family, most in NEWEST.items()), found


def test_the_wheels_library_runs_on_jetpack_6() -> None:
    if not LIBRARY.is_file():
        pytest.skip("libspikewire was not built here")
    found = symbol_versions(LIBRARY)
    assert all(found[family] <= most for family, most in NEWEST.items()), found


def test_a_c_program_finds_the_package(here: Path, cases: dict[str, Path], tmp_path: Path) -> None:
    """Installed, found by find_package, compiled as C, and says what `replay` says."""
    subprocess.run(["cmake", "--install", str(here), "--prefix", str(tmp_path / "usr")],
                   check=True, capture_output=True)
    made = build(tmp_path / "example", f"-DCMAKE_PREFIX_PATH={tmp_path}/usr",
                 source=ROOT / "runtime/examples")
    case, shape = cases["recommended"], SHAPES["recommended"]
    done = subprocess.run(
        [str(made / "decode"), str(case / "weights.bin"), str(shape.units), str(shape.channels),
         str(shape.delays), str(case / "kernels"), str(case / "scale")],
        input=(case / "emg").read_bytes(), capture_output=True)
    assert done.returncode == 0, done.stderr
    spikes = [tuple(map(int, line.split())) for line in done.stdout.splitlines()]
    rows = replay(here, case, "fp32", 0)
    first = STEPS * STEP - STEP * len(rows) + STEP  # the end of the first ready window
    for unit in range(shape.units):
        wanted, last = [], -(10**9)
        for k, (presence, position) in enumerate(rows):
            at = first + STEP * k - WINDOW + shape.bin_start + int(position[unit])
            if presence[unit] > 0.5 and at - last >= 30:
                wanted.append(at)
                last = at
        assert [t for u, t in spikes if u == unit] == wanted


RECEIVER = """
#include <spikewire_rx.h>
int main(void) {
    spw_rx rx;
    const spw_rx_config config = spw_rx_defaults(7);
    spw_rx_init(&rx, &config);
    return (int)spw_rx_assist(&rx, 0);
}
"""


def test_the_receiver_is_installed_beside_it(here: Path, tmp_path: Path) -> None:
    usr = tmp_path / "usr"
    subprocess.run(["cmake", "--install", str(here), "--prefix", str(usr)], check=True,
                   capture_output=True)
    (tmp_path / "main.c").write_text(RECEIVER)
    (library,) = usr.rglob("libspikewire_rx.a")
    subprocess.run(["gcc", "-std=c99", f"-I{usr}/include", str(tmp_path / "main.c"), str(library),
                    "-o", str(tmp_path / "main")], check=True)
    assert subprocess.run([str(tmp_path / "main")]).returncode == 0


def test_sanitizers_find_nothing(cases: dict[str, Path], tmp_path: Path) -> None:
    """Every shape and instruction set, and a few seconds of damaged weights."""
    made = build(tmp_path, "-DSPW_TESTS=ON", "-DSPW_SANITIZE=ON")
    with subprocess.Popen([str(made / "fuzz_weights"), "5",
                           *(str(case / "weights.bin") for case in cases.values())],
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as fuzz:
        for case, precision, cpu in product(cases.values(), PRECISIONS, (0, 1)):
            replay(made, case, precision, cpu)
        said, errors = fuzz.communicate()
    assert fuzz.returncode == 0, errors[-3000:]
    assert "none crashed" in said
