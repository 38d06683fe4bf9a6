"""mu-flash: a bundle onto a board; each part of it is a file flash_*.py beside this."""

from __future__ import annotations

import argparse
import sys

from spikewire.commands import flash_build, flash_deploy, flash_image, guarded

PARTS = (flash_build, flash_deploy, flash_image)


def parser() -> argparse.ArgumentParser:
    """Options of mu-flash."""
    p = argparse.ArgumentParser(
        prog="mu-flash", description="From a bundle to a board that runs it from its next boot on.",
        epilog="example: mu-flash deploy root@board releases/0.1.0-0123456789ab")
    parts = p.add_subparsers(metavar="WHAT", required=True)
    for part in PARTS:
        part.add_parser(parts)
    return p


def main(argv: list[str] | None = None) -> int:
    """Entry point."""
    args = parser().parse_args(argv)
    return guarded("mu-flash", lambda: int(args.run(args)))


if __name__ == "__main__":
    sys.exit(main())
