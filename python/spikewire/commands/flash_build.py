"""mu-flash build: a bundle and a board file become one signed folder, and the same as a tar."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any


def add_parser(subparsers: Any) -> None:
    """Add `build` to mu-flash."""
    p = subparsers.add_parser(
        "build", help="make a release: all that a board needs, signed",
        description="Make a release: a folder and a tar with the runtime, its dependencies, the "
                    "bundle, units and board file, signed. The first build for a board's Python "
                    "needs the network and, for aarch64, Debian's cross compiler; later ones none.",
        epilog="example: mu-flash build --board orin-nano-super --bundle vastus.mub --out releases "
               "--link 'can:can0?profile=fd' -- --realtime 3")
    p.add_argument("--board", required=True, metavar="B",
                   help="an id such as orin-nano-super, or a .toml file")
    p.add_argument("--bundle", required=True, metavar="X.mub", type=Path)
    p.add_argument("--out", required=True, metavar="DIR", type=Path,
                   help="gets the folder VERSION-HASH and its tar; made if it is not there")
    p.add_argument("--python", metavar="3.X", help="the board's python3; default: the board "
                   "file's first")
    p.add_argument("--source", metavar="URI", help="where the board takes samples from; default: "
                   "the bundle's own golden excerpt, again and again")
    p.add_argument("--link", action="append", metavar="URI",
                   help="where it sends to; may be given twice; default: null:")
    p.add_argument("more", nargs="*", metavar="-- OPTION",
                   help="after two dashes: other options of mu-run")
    p.add_argument("--key", metavar="FILE", type=Path, help="an OpenSSH key that signs; default: "
                   "~/.config/spikewire/release_key, made at its first use")
    p.add_argument("--dry-run", action="store_true", help="say what would be made; write nothing")
    p.add_argument("--json", action="store_true", help="print the result as JSON")
    p.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Build, or say what would be built."""
    from spikewire import release, signing
    from spikewire.board import read_board

    board = read_board(args.board)
    source, links = args.source or release.SOURCE, args.link or [release.LINK]
    check_words(source, links, args.more)
    if args.dry_run:
        said = plan(args, board, source, links)
        print(json.dumps(said) if args.json else lines(said))
        return 0
    key = args.key or signing.default_key()
    made_key, started = not key.exists(), time.monotonic()
    folder = release.build(board, args.bundle, args.out, args.python, source, links, args.key,
                           args.more)
    if made_key:
        print(f"mu-flash: made the signing key {key}; keep it, and a copy in a safe place",
              file=sys.stderr)
    record = json.loads((folder / release.RECORD).read_bytes())
    size = sum((folder / name).stat().st_size for name in record["files"])
    said = {
        "release": str(folder), "board": f"{board.id} (verified: {board.verified})",
        "python": record["python"], "bundle": f"{args.bundle} (arm id {record['bundle']['id']})",
        "files": len(record["files"]), "megabytes": round(size / 1e6, 1),
        "signed_by": signing.fingerprint(key), "seconds": round(time.monotonic() - started, 1)}
    print(json.dumps(said) if args.json else lines(said))
    return 0


def check_words(source: str, links: list[str], more: list[str]) -> None:
    """Refuse now what mu-run would refuse on the board."""
    from spikewire.commands.run import parser
    from spikewire.signals import InputError

    def refuse(message: str) -> None:
        raise InputError(f"mu-run: {message}; see mu-run --help")

    words = parser()
    words.error = refuse  # type: ignore[method-assign, assignment]
    words.parse_args(["bundle.mub", "--source", source,
                      *(w for link in links for w in ("--link", link)), *more])


def plan(args: argparse.Namespace, board: Any, source: str, links: list[str]) -> dict[str, Any]:
    """What a build would do; everything is checked that can be without writing."""
    from spikewire import release, shim, signing, wheels
    from spikewire.bundle import arm_id, read_bundle

    python = release.check_board(board, args.python)
    release.check_place(args.out)
    words = release.run_env(source, links, args.more)
    opened = read_bundle(args.bundle)
    key = args.key or signing.default_key()
    signing.check_key(key, there=args.key is not None or key.exists())
    listed = wheels.listed(python, board.arch, gpu=board.engine == "tensorrt")
    library = shim.kept(board.arch)
    return {
        "board": f"{board.id} (verified: {board.verified})", "python": python,
        "bundle": f"{args.bundle} (arm id {arm_id([opened]):08x})", "out": str(args.out),
        "wheels": len(listed), "to_download": wheels.missing(listed),
        "libspikewire": "kept" if library and library.is_file() else "to be compiled",
        "run_env": words.decode().strip(),
        "key": str(key) if key.exists() else f"{key}, to be made"}


def lines(said: dict[str, Any]) -> str:
    """One fact a line."""
    return "\n".join(f"{name.replace('_', ' '):<13} {', '.join(v) if isinstance(v, list) else v}"
                     for name, v in said.items())
