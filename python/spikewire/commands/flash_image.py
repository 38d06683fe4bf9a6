"""mu-flash inject, image-cmd: a release in a whole board's image, which NVIDIA's tool writes."""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

from spikewire.signing import default_key

KEYS = r"(ssh-ed25519|ecdsa-sha2-\S+|ssh-rsa|sk-\S+) ([A-Za-z0-9+/=]{40,2000})( .*)?"


def add_parser(kinds: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add both."""
    p = kinds.add_parser(
        "inject", help="lay a release into NVIDIA's root file system before it is flashed",
        epilog="example: sudo mu-flash inject --l4t Linux_for_Tegra "
                                 "--release out/0.1.0-9f3a5c21e4b7 --key release_key.pub")
    p.add_argument("--l4t", type=Path, required=True, metavar="DIR",
                   help="Linux_for_Tegra, its rootfs unpacked and apply_binaries.sh run")
    p.add_argument("--release", type=Path, required=True, metavar="FOLDER",
                   help="folder made by mu-flash build")
    p.add_argument("--key", type=Path, default=default_key().with_suffix(".pub"),
                   metavar="KEY.pub", help="whose releases the board takes (default: what mu-flash "
                                           "build signs with)")
    p.set_defaults(run=run, work=_inject)
    p = kinds.add_parser(
        "image-cmd", help="print NVIDIA's command that flashes a whole board",
        epilog="example: mu-flash image-cmd --board orin-nano-super --jetpack 6.2 --storage nvme")
    p.add_argument("--board", required=True, metavar="BOARD", help="its id, or a .toml file")
    p.add_argument("--jetpack", required=True, metavar="VERSION", help="such as 6.2 or 7.2")
    p.add_argument("--storage", metavar="WHERE", help="nvme, sd or emmc")
    p.set_defaults(run=run, work=_image)


def run(args: argparse.Namespace) -> int:
    """Run the one that was asked for."""
    return int(args.work(args))


def _inject(args: argparse.Namespace) -> int:
    """mu-flash inject."""
    from spikewire.l4t import inject

    signers = _signers(args.key)
    for line in inject(args.l4t, args.release, signers, lambda folder: _verify(folder, signers)):
        print(line)
    print("mu-flash: a first user is made by NVIDIA's tools/l4t_create_default_user.sh; then type: "
          "mu-flash image-cmd", file=sys.stderr)
    return 0


def _verify(release: Path, signers: bytes) -> dict[str, Any]:
    """Check a release as the board would, and that the board will take its signature."""
    from spikewire.onboard.releases import ReleaseError, verify_folder, verify_signature
    from spikewire.signals import InputError

    try:
        with tempfile.NamedTemporaryFile() as file:
            file.write(signers)
            file.flush()
            found = verify_folder(release)
            verify_signature(release, Path(file.name))
    except ReleaseError as error:
        raise InputError(f"{release}: {error}; build the release again") from None
    return dict(found)


def _signers(key: Path) -> bytes:
    """The public key as an allowed_signers file."""
    from spikewire.signals import InputError

    try:
        words = re.fullmatch(KEYS, key.expanduser().read_text().strip(), re.ASCII)
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not text"
        raise InputError(f"{key}: cannot read the public key ({reason}); mu-flash build makes one, "
                         "or name yours with --key (under sudo, ~ is root's)") from None
    if words is None:
        raise InputError(f"{key}: not a public key; allowed is the .pub file of ssh-keygen")
    return f'spikewire namespaces="spikewire-release" {words[1]} {words[2]}\n'.encode()


def _image(args: argparse.Namespace) -> int:
    """mu-flash image-cmd."""
    from spikewire.board import read_board
    from spikewire.l4t import flash_command

    board = read_board(args.board)
    found = flash_command(board, args.jetpack, args.storage)
    print(found.command)
    print(f"mu-flash: {board.title}, JetPack {found.jetpack} on {found.storage}; type it in "
          "Linux_for_Tegra of that JetPack, the board connected by USB and in recovery mode. It "
          f"erases the board. verified = {board.verified!r}"
          + (": nobody has run it here" if board.verified == "none" else ""), file=sys.stderr)
    return 0
