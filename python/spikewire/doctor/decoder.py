"""The decoder: its engines, its bundle, and whether both decode right and in time here."""

from __future__ import annotations

from collections.abc import Iterator

from spikewire.bundle import Bundle, arm_id, read_bundle
from spikewire.doctor.board import installed, version_of
from spikewire.doctor.finding import FAIL, NONE, OK, WARN, Asked, Finding, judged
from spikewire.doctor.machine import Machine
from spikewire.runtime import engine_native
from spikewire.runtime.engine import ENGINES, Engine, EngineError, chosen
from spikewire.signals import STEP, InputError

BUDGET_MS = 80.0  # from a discharge to its frame on the wire
HOW = "mu-doctor X.mub --self-test"


def _lacks() -> dict[str, str]:
    """What each engine lacks on this machine, or nothing."""
    lacks = {name: ", ".join(m for m in needs if not version_of(m, m))
             for name, (_, _, needs) in ENGINES.items() if name != "null"}
    if not installed("onnxruntime-gpu"):
        lacks["ort-cuda"] = lacks["ort-cuda"] or "onnxruntime-gpu"
    try:
        engine_native.load_library()
    except InputError:
        lacks["native"] = "its library"
    return lacks


def engines(machine: Machine, asked: Asked) -> Iterator[Finding]:
    """Which engines this machine has."""
    lacks = _lacks()
    words = [f"{name} {'there' if not lack else 'lacks ' + lack}" for name, lack in lacks.items()]
    wanted = "native" if asked.engine == "auto" and not lacks["native"] else asked.engine
    wanted = "ort" if wanted == "auto" else wanted
    yield judged("engines", f"{'; '.join(words)}; --engine {asked.engine} takes {wanted}", [
        (bool(lacks.get(wanted)), FAIL, "deploy the release again, or install spikewire where a "
         "C++ compiler is"),
    ])


def _opened(path: str | None) -> Bundle | str:
    """The bundle, or why there is none."""
    try:
        return read_bundle(path) if path else ""
    except (InputError, OSError) as error:
        return str(error)


def bundle(machine: Machine, asked: Asked) -> Iterator[Finding]:
    """The bundle's own hashes, and what it is."""
    found = _opened(asked.bundle)
    if isinstance(found, Bundle):
        m = found.manifest
        yield Finding("bundle", OK, f"{m.name}: {len(found.files)} hashes agree, {m.n_mu} units, "
                      f"{m.channels} channels at {m.fs_hz:g} Hz, arm id {arm_id([found]):08x}, "
                      f"auto takes {chosen(found, 'auto')}", figures={
                          "sha256": found.sha256, "arm_id": f"{arm_id([found]):08x}"})
    elif asked.bundle:
        yield Finding("bundle", FAIL, found, "copy or export it again")
    else:
        yield Finding("bundle", NONE, "none was given", "mu-doctor X.mub")


def selftest(machine: Machine, asked: Asked) -> Iterator[Finding]:
    """Golden windows in every precision asked, then a paced run in the first."""
    found = _opened(asked.bundle)
    if not isinstance(found, Bundle) or not asked.self_test:
        yield Finding("golden windows", NONE, "not asked for", HOW)
        yield Finding("latency", NONE, "not asked for", HOW)
        return
    try:
        from spikewire.runtime import selftest as tests
    except ImportError as error:  # of what every board should have; the packages' line names it
        yield Finding("golden windows", FAIL, f"cannot be run: {error}", "see packages above")
        return
    proofs = tests.golden(found, asked.engine, asked.precisions)
    for proof in proofs:
        step = f"golden {proof.precision}"
        if proof.engine is None:
            yield Finding(step, FAIL, proof.reason, "take another --engine, or export it again")
        elif not proof.engine.for_control:
            yield Finding(step, NONE, f"{proof.engine.name}, so nothing was compared")
        else:
            yield Finding(step, OK, f"{proof.engine.name}: 200 windows, differ by up to "
                          f"{proof.difference:.1e}, allowed {proof.allowed:.1e}",
                          figures={"engine": proof.engine.name, "difference": proof.difference,
                                   "allowed": proof.allowed})
    engine = proofs[0].engine
    if engine is None or not asked.seconds:
        yield Finding("latency", NONE, "no engine runs" if engine is None else "--seconds 0")
    else:
        yield latency(found, engine, asked.seconds)


def latency(found: Bundle, engine: Engine, seconds: float) -> Finding:
    """How long a discharge takes to its frame, on samples that come as an amplifier sends them."""
    from spikewire.runtime.loop import LATE_S
    from spikewire.runtime.selftest import paced

    try:
        run = paced(found, engine, seconds)
    except (InputError, EngineError) as error:
        return Finding("latency", FAIL, str(error), "take another --engine")
    delay, age, compute = run["decode_delay_ms"], run["age_ms"], run["compute_ms"]
    period_ms = 1e3 * STEP / found.manifest.fs_hz

    def three(of: dict[str, float]) -> str:
        return f"{of['p50']:.2f} / {of['p99']:.2f} / {of['max']:.2f}"

    evidence = (f"discharge to frame {three(delay)} ms (p50 / p99 / max, budget {BUDGET_MS:g}); "
                f"age {three(age)}, compute {three(compute)} of {period_ms:.1f}; {run['steps']} "
                f"steps at real speed, {run['missed']} missed; {run['engine']}")
    faster = "lock power mode and clocks, end other programs, or take --precision int8"
    made = judged("latency", evidence, [
        (not run["decoded"], FAIL, "a longer --seconds"),
        (delay["p99"] > BUDGET_MS or compute["p99"] > period_ms, FAIL, faster),
        (age["p99"] > 1e3 * LATE_S or run["missed"] > 0, WARN, faster),
    ])
    return Finding(made.step, made.state, made.evidence, made.remedy, run)
