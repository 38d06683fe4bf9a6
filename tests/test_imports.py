"""Who may import whom, walked with `ast`: the table below is the architecture's, not the code's."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "python" / "spikewire"
STANDARD = set(sys.stdlib_module_names) | {"tomllib"}  # since Python 3.11

# module (or package.*) -> modules of ours that it may import
OURS = {
    "signals": {},
    "durable": {},
    "tomlfile": {"signals"},
    "boardfacts": {},
    "board": {"signals", "tomlfile", "boardfacts"},
    "units": {"board"},
    "l4t": {"signals", "durable", "boardfacts", "board", "units"},
    "link.table": {},
    "decide": {"signals"},
    "filters": {"signals"},
    "score": {"signals"},
    "manifest": {"signals"},
    "bundle": {"signals", "durable", "moments", "manifest"},
    "golden": {"signals", "filters", "bundle", "manifest"},
    "elf": {"signals"},
    "wheels": {"signals", "durable"},
    "shim": {"signals", "durable"},
    "signing": {"signals"},
    "release": {"signals", "durable", "bundle", "board", "units", "elf", "wheels", "shim",
                "signing"},
    "adapt": {"signals", "bundle", "golden", "moments", "peaks", "register", "filters"},
    "io.replay": {"signals", "io", "bundle"},
    "io.*": {"signals", "durable", "io"},
    "emulate.*": {"signals", "io.source", "emulate"},
    "link.generate": {"durable", "link"},
    "link.*": {"link"},
    "adapters.*": {"signals", "tomlfile", "link", "adapters"},
    "runtime.publish": {"signals", "monitor.layout", "runtime"},
    "runtime.*": {"signals", "durable", "filters", "moments", "peaks", "register", "decide",
                  "io", "bundle", "link", "runtime"},
    "monitor.layout": {},
    "monitor.words": {"link.table"},
    "monitor.exercise": {"signals", "guide"},
    "monitor.*": {"signals", "io", "link.table", "runtime.audience", "monitor"},
    "doctor.*": {"signals", "bundle", "io", "link", "runtime", "doctor"},
    "peel": {"signals"},
    "separate": {"signals", "score", "peaks", "peel"},
    "decompose": {"signals", "filters", "score", "peel", "separate"},
    "edits": {"signals", "score", "peaks", "separate", "io"},
    "simulate.live": {"signals", "io.source", "simulate"},
    "simulate.*": {"signals", "durable", "simulate"},
    "dataset": {"signals"},
    "network": {},
    "recipe": {"signals"},
    "peaks": {"signals"},
    "moments": {"signals"},
    "shift": {"moments"},
    "register": {"signals", "filters", "moments", "peaks", "shift"},
    "crossfit": {"signals", "filters", "score", "moments", "peaks", "recipe"},
    "augment": {"signals", "filters", "moments", "peaks", "shift", "crossfit", "dataset"},
    "model": {"signals", "durable", "io", "network", "crossfit", "recipe", "moments"},
    "train": {"signals", "golden", "dataset", "network", "score", "crossfit", "recipe", "decide",
              "model", "augment", "moments"},
    "rehearse": {"signals", "manifest", "golden", "decide", "filters", "score"},
    "widths": {"signals", "recipe"},
    "channels": {"signals", "network", "model", "recipe"},
    "prune": {"signals", "dataset", "train", "crossfit", "model", "recipe", "channels", "widths"},
    "quantize": {"signals", "golden"},
    "weights": {"signals"},
    "fused": {"signals"},
    "export": {"signals", "durable", "bundle", "manifest", "weights", "fused", "golden", "quantize",
               "rehearse", "moments", "decide", "filters", "network", "model", "train"},
    "capture": {"signals", "io", "runtime"},
    "guide": {"signals"},
    "calibrate": {"signals", "guide"},
    "report.screen": {"capture", "guide"},
    "report.decomposition": {"signals", "score", "report"},
    "report.scoring": {"signals", "score", "report"},
    "report.calibration": {"signals", "guide", "report"},
    "report.story": {"io", "link.table"},
    "report.running": {"signals", "link.load", "link.table", "monitor.words", "report"},
    "onboard.*": {"onboard"},  # goes to boards by itself: nothing else of ours
    "remote": {"signals"},
    "deploy": {"signals", "onboard", "remote"},
    "report.review": {"signals", "decompose", "edits", "score", "separate"},
    "report.demo": {"io", "report"},
    "report.*": {"signals", "durable", "report"},
    "study.jobs": {"signals", "durable"},
    "study.robustness": {"signals", "score", "decompose", "separate", "simulate", "io",
                         "recipe", "crossfit", "study"},
    "study.decoders": {"signals", "durable", "io", "recipe", "train", "export"},
    "study.recording": {"signals", "score", "dataset", "decompose", "recipe", "crossfit",
                        "train", "study"},
    "study.*": {"signals", "durable", "io", "score", "decide", "decompose", "separate", "simulate",
                "dataset", "network", "recipe", "crossfit", "train", "report", "study"},
}
# third parties -> the modules that may import them
THEIRS = {
    "onnxruntime": {"runtime.engine_ort", "golden", "export"},
    "tensorrt": {"runtime.engine_tensorrt"},
    "cuda": {"runtime.engine_tensorrt"},
    "serial": {"link.uart"},
    "can": {"link.canbus", "adapters.bus"},
    "tomli": {"tomlfile"},
    "mcap": {"io.runlog"},
    "h5py": {"io.mat73"},
    "pylsl": {"io.lsl", "link.lsl"},
    "scipy": {"io.resample", "decompose", "separate", "crossfit", "augment", "simulate.volume",
              "simulate.muap", "simulate.discharge"},
    "keras": {"network", "model", "train", "export", "channels", "prune", "study.cell",
              "study.networks"},
    "tensorflow": {"network", "train", "export", "study.cell", "prune"},
    "tf2onnx": {"export"},
    "onnx": {"export", "quantize", "fused"},
    "dask": {"study.jobs"},
    "distributed": {"study.jobs"},
    "optuna": {"study.search"},
    "starlette": {"monitor.app"},
    "uvicorn": {"monitor.app"},
    "rich": {"monitor.terminal", "commands", "commands.doctor", "commands.link", "report.demo",
             "report.screen"},
}


def modules() -> dict[str, Path]:
    """Dotted name inside the package -> file."""
    out = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        out[".".join(p for p in parts if p != "__init__") or "spikewire"] = path
    return out


def imports(path: Path) -> set[str]:
    """Dotted names that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            module = node.module or ""
            found |= {f"{module}.{a.name}" if module.split(".")[-1] == "spikewire" or
                      (PACKAGE.parent / module.replace(".", "/")).is_dir() else module
                      for a in node.names}
    return found


def row(name: str) -> str | None:
    """Row of the table that a module falls under."""
    return name if name in OURS else next(
        (r for r in OURS if r.endswith(".*") and (name + ".").startswith(r[:-1])), None)


@pytest.mark.parametrize("name", modules())
def test_a_module_imports_only_what_its_row_allows(name: str) -> None:
    if name in ("spikewire",) or name.split(".")[0] == "commands":
        return  # commands may import all; that nobody imports them is the next test
    allowed = row(name)
    assert allowed is not None, f"{name} has no row in the table"
    for found in imports(modules()[name]):
        if found.startswith("spikewire."):
            inner = found.removeprefix("spikewire.")
            fine = any(inner == a or inner.startswith(a + ".") for a in OURS[allowed])
            assert fine or inner == "__version__", f"{name} imports {found}"


@pytest.mark.parametrize("name", modules())
def test_third_parties_are_imported_where_the_table_says(name: str) -> None:
    for found in imports(modules()[name]):
        top = found.split(".")[0]
        if top in STANDARD or top in ("numpy", "spikewire"):
            continue
        assert name in THEIRS[top], f"{name} imports {found}"


def test_nobody_imports_a_command() -> None:
    for name, path in modules().items():
        if name.split(".")[0] != "commands":
            assert not [i for i in imports(path) if i.startswith("spikewire.commands")], name


def test_no_module_of_ours_bears_a_third_party_name() -> None:
    own = {name.split(".")[-1] for name in modules()}
    assert not own & {"numpy", "serial", "can", "onnx", "onnxruntime", "tensorrt", "keras", "mcap"}


def test_the_runtime_starts_without_training_packages() -> None:
    parts = ("runtime", "link", "adapters", "io", "bundle", "doctor")
    names = [n for n in modules() if n.split(".")[0] in parts
             and n not in ("runtime.engine_ort", "runtime.engine_tensorrt")]
    code = (
        "import sys\n"
        + "".join(f"import spikewire.{n}\n" for n in names)
        + "".join(f"import spikewire.commands.{n}\n"
                  for n in ("run", "run_ended", "link", "adapter", "doctor"))
        + "import spikewire.report.ran, spikewire.report.running\n"
        + "print([m for m in ('tensorflow', 'keras', 'scipy', 'onnx', 'onnxruntime', 'tf2onnx') "
        "if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
