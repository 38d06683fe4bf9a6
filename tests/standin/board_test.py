"""Build, deploy, status, rollback, doctor, broken releases and power cuts on the stand-in boards.

    python tests/standin/board_test.py            # make board-test; needs root
    python tests/standin/board_test.py --only native --cuts 10

Writes docs/reports/board_test.json; exit code 1 if anything in it is not as it must be.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(HERE), str(HERE.parent), str(ROOT / "python")]
os.environ["PYTHONPATH"] = str(ROOT / "python")

import conftest
import numpy as np
import rootfs
from board import HOST, Board
from broken import Kit, play
from cuts import current, cuts, whole, wrong
from releases import build, flash, native_board, paced

from spikewire.bundle import save_array
from spikewire.signing import make_key

REFERENCE = ROOT / "models/reference.mub"
# Half of what the reference needs a second: what an emulator computes in real time.
EMULATED_FS_HZ = 1024.0
LIMITS_S = {"build": 60, "deploy unchanged": 5, "rollback": 2}


class Checks:
    """What was shown: a row each, with its evidence; printed as they come."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []

    def add(self, name: str, ok: object, **evidence: Any) -> None:
        self.rows.append({"check": name, "ok": bool(ok), **evidence})
        print(f"{'ok  ' if ok else 'FAIL'} {name}: "
              f"{', '.join(f'{k} {v}' for k, v in evidence.items())}"[:600], flush=True)


def call(board: Board, *words: str | Path) -> tuple[int, list[dict[str, Any]], float, str]:
    """A mu-flash call: exit code, its lines, seconds, everything it printed.

    On an emulated board steps come late and the runtime is DEGRADED now and then; a change is then
    refused, and asked for again, as a person would.
    """
    for _ in range(20 if board.kind == "arm64" else 1):
        began = time.monotonic()
        done = subprocess.run(flash(*words, "--json"), env=board.env(), capture_output=True,
                              text=True)
        text, took = done.stdout + done.stderr, round(time.monotonic() - began, 2)
        if not (done.returncode and "state is DEGRADED" in text):
            break
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return done.returncode, lines, took, text


def limit(board: Board, what: str, took: float) -> dict[str, bool]:
    """Whether it was in time; an emulator's time is nobody's."""
    return {"within": took <= LIMITS_S[what]} if board.kind == "native" else {}


def failed(lines: list[dict[str, Any]], text: str) -> str:
    """The lines that failed; else the last one."""
    found = [f"{x['step']}: {x['evidence']}" for x in lines if x.get("state") == "fail"]
    told = [f"{x['step']}: {x['evidence']}" for x in lines if "step" in x]
    return "; ".join(found) or (told or text.strip().splitlines() or ["silent"])[-1]


def tour(board: Board, checks: Checks, first: Path, second: Path, key: Path, watch: str) -> None:
    """What a person does with a board, from nothing on it to a second release and back."""
    kind = board.kind
    deploy = ["--key", key, "--watch", watch]
    code, lines, took, text = call(board, "deploy", HOST, first, *deploy, "--dry-run")
    checks.add(f"{kind}: deploy --dry-run", code == 0 and not current(board), seconds=took)
    for name, release in (("first deploy", first), ("second deploy", second)):
        code, lines, took, text = call(board, "deploy", HOST, release, *deploy)
        checks.add(f"{kind}: {name}", code == 0 and current(board) == release.name, seconds=took,
                   said=failed(lines, text))
    code, lines, took, text = call(board, "deploy", HOST, second, *deploy)
    checks.add(f"{kind}: deploy unchanged", code == 0, seconds=took,
               **limit(board, "deploy unchanged", took), said=failed(lines, text))
    code, lines, took, text = call(board, "status", HOST)
    checks.add(f"{kind}: status", code == 0 and second.name in text and "none" in text,
               seconds=took, said=[f"{x['step']}: {x['evidence']}" for x in lines if "step" in x])
    code, lines, took, text = call(board, "rollback", HOST)
    checks.add(f"{kind}: rollback", code == 0 and current(board) == first.name, seconds=took,
               **limit(board, "rollback", took), said=failed(lines, text))
    code, lines, took, text = call(board, "doctor", HOST)
    steps = {x["step"]: x["state"] for x in lines if "step" in x}
    checks.add(f"{kind}: doctor", code in (0, 1) and steps.get("bundle") == "ok", seconds=took,
               exit_code=code, states=steps)
    if kind == "native":  # ten seconds at real speed are beyond an emulator
        code, lines, took, text = call(board, "bench", HOST)
        found = {x["step"]: x for x in lines if "step" in x}
        checks.add(f"{kind}: bench", code in (0, 1) and found["golden fp32"]["state"] == "ok"
                   and found["latency"]["state"] != "n/a", seconds=took,
                   said=[found[x]["evidence"] for x in ("golden fp32", "latency")])
    code, lines, took, text = call(board, "logs", HOST, "-n", "3")
    checks.add(f"{kind}: logs", code == 0 and text.strip(), seconds=took)
    board.cut()
    began = time.monotonic()
    board.on()
    bad = wrong(board, {first.name})
    checks.add(f"{kind}: power off and on", not bad, seconds=round(time.monotonic() - began, 2),
               said=bad or f"{first.name} runs")


def golden(board: Board, checks: Checks, release: Path) -> None:
    """The reference bundle's 200 golden windows, decoded by the release's own runtime there."""
    shutil.copy(REFERENCE, board.root / "tmp/reference.mub")
    there = "/opt/spikewire/current/bin/mu-doctor /tmp/reference.mub --self-test --seconds 0 --json"
    done = board.run(f"uname -m; {there}")
    rows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    row = next((r for r in rows if r["step"].startswith("golden")), {})
    checks.add(f"{board.kind}: golden windows of models/reference.mub", row.get("state") == "ok",
               machine=done.stdout.split()[0] if done.stdout else "", said=row.get("evidence"))


def bundles(out: Path) -> tuple[Path, Path]:
    """A small bundle at the emulated rate, and one whose golden windows are not its own."""
    made = conftest.make_synthetic()
    small = conftest.make_bundle(out / "small.mub", made, fs_hz=EMULATED_FS_HZ)
    noise = np.random.default_rng(0).random((conftest.GOLDEN_STEPS, conftest.UNITS))
    wrong_one = conftest.make_bundle(out / "wrong.mub", made, {
        "golden/presence.fp32.npy": save_array(noise.astype(np.float32))}, fs_hz=EMULATED_FS_HZ)
    return small, wrong_one


def pair(checks: Checks, board: str | Path, bundle: Path, out: Path, key: Path) -> list[Path]:
    """Two releases of one bundle that differ in what mu-run is told, built twice: same bytes."""
    name = Path(board).stem
    releases, seconds = [], 0.0
    for more in ((), ("--", "--no-upkeep")):
        build(board, bundle, out, key, *more)  # fills the cache
        release, seconds = build(board, bundle, out, key, *more)
        releases.append(release)
    checks.add(f"{name}: build with a warm cache", whole(releases[0]), seconds=round(seconds, 1),
               within=seconds <= LIMITS_S["build"], release=releases[0].name)
    return releases


def emulated(checks: Checks, args: argparse.Namespace, out: Path, key: Path) -> dict[str, Any]:
    """The arm64 board: the tour, golden windows, some power cuts."""
    base = rootfs.build(ROOT / "build/standin/arm64")
    small, _ = bundles(out)
    # An emulator on a busy machine keeps no pace: the golden windows alone are its self-test.
    releases = [paced(release, key, 0) for release in
                pair(checks, "standin-arm64", small, out, key)]
    with Board(out / "arm64", "arm64", base, slow=args.slow) as board:
        tour(board, checks, *releases, key, args.watch)
        golden(board, checks, releases[0])
        return cutting(board, checks, releases, key, args.emulated_cuts, args.seed)


def native(checks: Checks, args: argparse.Namespace, out: Path, key: Path) -> dict[str, Any]:
    """The board without an emulator: the tour, many power cuts."""
    releases = pair(checks, native_board(out), REFERENCE, out, key)
    with Board(out / "native", "native") as board:
        tour(board, checks, *releases, key, args.watch)
        golden(board, checks, releases[0])
        fast = [paced(release, key, 0.5) for release in releases]  # idle seconds are all alike
        return cutting(board, checks, fast, key, args.cuts, args.seed)


def cutting(board: Board, checks: Checks, releases: list[Path], key: Path, count: int,
            seed: int) -> dict[str, Any]:
    """Measure a deploy and a rollback, then cut them at random moments."""
    longest: dict[str, float] = {}
    for verb, words in (("deploy", [releases[0]]), ("deploy", [releases[1]]), ("rollback", [])):
        more = ["--key", key, "--watch", "1"] if verb == "deploy" else []
        code, lines, took, text = call(board, verb, HOST, *words, *more)
        checks.add(f"{board.kind}: {verb} with a short self-test", code == 0, seconds=took,
                   said=failed(lines, text) if code else "")
        longest[verb] = took
    figures = cuts(board, releases, key, count, seed, longest)
    checks.add(f"{board.kind}: {count} power cuts", not figures["wrong"] and count,
               wrong=len(figures["wrong"]), seconds=figures["seconds"])
    return figures


def broken(checks: Checks, args: argparse.Namespace, out: Path, key: Path) -> dict[str, Any]:
    """A board with a small disk and a good release, and all that may be wrong with another one."""
    small, wrong_one = bundles(out)
    good = build(native_board(out), small, out, key)[0]
    stranger = out / "stranger_key"
    if not stranger.exists():
        make_key(stranger)
    with Board(out / "broken", "native", disk_mb=args.disk_mb) as board:
        code, lines, took, text = call(board, "deploy", HOST, good, "--key", key, "--watch", "1")
        checks.add("broken: the good release", code == 0, seconds=took, said=failed(lines, text))
        rows = play(Kit(board, good, key, stranger, small, wrong_one, out))
    for kind, row in rows.items():
        checks.add(f"broken: {kind}", row["ok"], message=row["message"], after=row["after"])
    return rows


CHAPTERS = {"native": native, "emulated": emulated, "broken": broken}


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(description="Show on stand-in boards what cannot be shown on a "
                                "Jetson here (tests/standin/README.md). Needs root.")
    p.add_argument("--only", choices=list(CHAPTERS), action="append", help="default: all three")
    p.add_argument("--cuts", type=int, default=280, help="power cuts on the native board")
    p.add_argument("--emulated-cuts", type=int, default=20, help="and on the emulated one")
    p.add_argument("--seed", type=int, default=1, help="of the moments of the cuts")
    p.add_argument("--watch", default="10", help="seconds that a release must live")
    p.add_argument("--slow", type=float, default=5, help="times by which the limits of units are "
                   "longer on the emulated board")
    p.add_argument("--disk-mb", type=int, default=900, help="disk of the board for broken releases")
    p.add_argument("--out", type=Path, default=ROOT / "docs/reports/board_test.json")
    return p


def main() -> int:
    args = parser().parse_args()
    if os.geteuid() or rootfs.missing():
        print("board-test: must run as root (namespaces, mounts); type: sudo make board-test"
              if os.geteuid() else "board-test: type: apt-get install --no-install-recommends "
              f"{' '.join(rootfs.missing())}", file=sys.stderr)
        return 2
    out = ROOT / "build/standin/work"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    key = out / "release_key"
    make_key(key)
    checks, chapters = Checks(), {}
    for name in args.only or CHAPTERS:
        chapters[name] = CHAPTERS[name](checks, args, out, key)
    good = all(row["ok"] and row.get("within", True) for row in checks.rows)
    text = json.dumps({
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs, {platform.release()}",
        "load": round(os.getloadavg()[2], 1), "slow": args.slow, "watch_s": float(args.watch),
        "ok": good, "checks": checks.rows, **chapters}, indent=1)
    args.out.write_text(text.replace(f"{ROOT}/", "") + "\n")  # a report names no machine's folders
    print(f"{sum(row['ok'] for row in checks.rows)} of {len(checks.rows)} shown; {args.out}")
    return int(not good)


if __name__ == "__main__":
    sys.exit(main())
