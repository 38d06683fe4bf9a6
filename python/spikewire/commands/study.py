"""mu-study: many trainings as one study; each kind of study is a file study_*.py beside this."""

from __future__ import annotations

import argparse
import os
import sys

from spikewire.commands import (
    INTERRUPTED,
    guarded,
    study_paper,
    study_recording,
    study_robustness,
    study_search,
)

STUDIES = (study_paper, study_robustness, study_recording, study_search)


def parser() -> argparse.ArgumentParser:
    """Options of mu-study."""
    p = argparse.ArgumentParser(
        prog="mu-study", description="Many trainings as one study, resumed where it stopped.",
        epilog="example: mu-study paper --out out/paper")
    kinds = p.add_subparsers(metavar="KIND", required=True)
    for study in STUDIES:
        study.add(kinds)
    return p


def main(argv: list[str] | None = None) -> int:
    """Entry point."""
    args = parser().parse_args(argv)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow's start-up chatter

    def work() -> int:
        try:
            return int(args.run(args))
        except KeyboardInterrupt:
            print("mu-study: interrupted; what was finished is kept, the same command goes on",
                  file=sys.stderr)
            return INTERRUPTED

    return guarded("mu-study", work)


if __name__ == "__main__":
    sys.exit(main())
