"""A release in a root file system, and NVIDIA's flash commands.

Truth: the board's side of the contract, written here by hand (folders, state.json, links as
systemctl makes them); the commands of NVIDIA's Quick Start; an L4T root file system that holds what
apply_binaries.sh leaves.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from spikewire.board import read_board, to_json
from spikewire.commands import flash_image, guarded
from spikewire.l4t import flash_command, inject
from spikewire.signals import InputError
from spikewire.units import udev_rules, units

SIGNERS = b'spikewire namespaces="spikewire-release" ssh-ed25519 AAAA\n'


def make_l4t(path: Path, revision: str = "4.3", python: str = "3.10") -> Path:
    """NVIDIA's Linux_for_Tegra as far as anything of ours looks at it."""
    for name in ("etc", "usr/bin", "var/lib", "opt"):
        (path / "rootfs" / name).mkdir(parents=True)
    (path / "rootfs/etc/nv_tegra_release").write_text(
        f"# R{36 if python == '3.10' else 39} (release), REVISION: {revision}, GCID: 38968081, "
        "BOARD: generic, EABI: aarch64, DATE: Wed Jan  8 01:49:37 UTC 2025\n")
    (path / f"rootfs/usr/bin/python{python}").symlink_to("/nowhere/on/this/machine")
    return path


def make_release(path: Path, board: str = "orin-nano-super", **changes: Any) -> Path:
    """A release as the contract describes it."""
    facts = read_board(board)
    files: dict[str, tuple[bytes, str]] = {
        "board.json": (to_json(facts), "0644"), "bundle.mub": (b"bundle", "0644"),
        "run.env": (b"SPIKEWIRE_RUN=--source lsl:emg\n", "0644"), "onboard.pyz": (b"zip", "0644"),
        "bin/mu-run": (b"#!/bin/sh\n", "0755"), "site/spikewire/__init__.py": (b"", "0644"),
        **{f"units/{name}": (text.encode(), "0644") for name, text in units(facts).items()},
        **{f"udev/{name}": (text.encode(), "0644") for name, text in udev_rules(facts).items()},
    }
    for name, (content, mode) in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
        (path / name).chmod(int(mode, 8))
    sha256 = {name: hashlib.sha256(content).hexdigest() for name, (content, _) in files.items()}
    (path / "release.json").write_text(json.dumps({
        "schema": 1, "version": "0.1.0", "board": board, "python": "3.10", "arch": facts.arch,
        "bundle": {"file": "bundle.mub", "id": "1", "sha256": sha256["bundle.mub"]},
        "files": {name: {"sha256": sha256[name], "mode": mode}
                  for name, (_, mode) in files.items()}} | changes, sort_keys=True))
    (path / "release.json.sig").write_text("signature")
    return path


def believe(release: Path) -> dict[str, Any]:
    """In the place of the board's check, which has tests of its own."""
    return dict(json.loads((release / "release.json").read_text()))


@pytest.fixture
def l4t(tmp_path: Path) -> Path:
    return make_l4t(tmp_path / "Linux_for_Tegra")


@pytest.fixture
def release(tmp_path: Path) -> Path:
    return make_release(tmp_path / "release")


def test_the_board_finds_a_release_on_trial(l4t: Path, release: Path) -> None:
    said = inject(l4t, release, SIGNERS, believe)
    root = l4t / "rootfs"
    name = "0.1.0-" + hashlib.sha256((release / "release.json").read_bytes()).hexdigest()[:12]
    assert os.readlink(root / "opt/spikewire/current") == f"releases/{name}"
    installed = root / "opt/spikewire/releases" / name
    for path in release.rglob("*"):
        copy = installed / path.relative_to(release)
        assert copy.stat().st_mode == path.stat().st_mode
        assert path.is_dir() or copy.read_bytes() == path.read_bytes()
    assert json.loads((root / "var/lib/spikewire/state.json").read_text()) == {
        "good": None, "trial": name, "tries": 0, "failed": [], "last": {}}
    assert (root / "opt/spikewire/onboard.pyz").read_bytes() == b"zip"
    assert (root / "etc/spikewire/allowed_signers").read_bytes() == SIGNERS
    assert (root / "etc/spikewire/run.env").read_bytes() == b"SPIKEWIRE_RUN=--source lsl:emg\n"
    assert not (root / "opt/spikewire/previous").is_symlink()
    assert said[-1] == f"/opt/spikewire/current: {name}, on trial at the first boot"


def test_units_are_there_and_enabled_as_systemctl_would(l4t: Path, release: Path) -> None:
    inject(l4t, release, SIGNERS, believe)
    root = l4t / "rootfs"
    board = read_board("orin-nano-super")
    folder = root / "etc/systemd/system"
    for name, text in units(board).items():
        assert (folder / name).read_text() == text
    enabled = {p.name: os.readlink(p) for p in (folder / "multi-user.target.wants").iterdir()}
    assert enabled == {name: f"/etc/systemd/system/{name}" for name in (
        "mu-boot-check.service", "mu-confirm.service", "mu-runtime.service")}
    rules = root / "etc/udev/rules.d/60-spikewire.rules"
    assert rules.read_text() == udev_rules(board)["60-spikewire.rules"]
    if shutil.which("systemctl"):
        for name in enabled:
            done = subprocess.run(["systemctl", f"--root={root}", "is-enabled", name],
                                  capture_output=True, text=True)
            assert done.stdout.strip() == "enabled", done.stderr


def test_twice_is_once_and_what_belongs_to_the_owner_stays(l4t: Path, release: Path) -> None:
    inject(l4t, release, SIGNERS, believe)
    before = {p: p.lstat().st_size for p in l4t.rglob("*")}
    (l4t / "rootfs/opt/spikewire/releases/.stale.new").mkdir()
    inject(l4t, release, SIGNERS, believe)
    (l4t / "rootfs/opt/spikewire/releases/.stale.new").rmdir()
    assert {p: p.lstat().st_size for p in l4t.rglob("*")} == before
    own = l4t / "rootfs/etc/spikewire/run.env"
    own.write_text("SPIKEWIRE_RUN=mine\n")
    said = inject(l4t, release, b"other\n", believe)
    assert own.read_text() == "SPIKEWIRE_RUN=mine\n"
    assert "/etc/spikewire/run.env: left as it is; the release's own differs" in said
    assert (l4t / "rootfs/etc/spikewire/allowed_signers").read_bytes() == SIGNERS


def refused(l4t: Path, release: Path) -> str:
    """What an injection is refused with; nothing may have been switched over."""
    with pytest.raises(InputError) as caught:
        inject(l4t, release, SIGNERS, believe)
    assert not (l4t / "rootfs/var/lib/spikewire/state.json").exists()
    assert not (l4t / "rootfs/opt/spikewire/current").is_symlink()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_is_no_root_file_system_of_nvidias(tmp_path: Path, release: Path) -> None:
    assert "has no rootfs/etc/nv_tegra_release; unpack " in refused(tmp_path / "none", release)


@pytest.mark.parametrize(("revision", "python", "words"), [
    ("4.0", "3.10", "Jetson Linux is '36.4.0', allowed for board orin-nano-super are 36.4.3 and "),
    ("2.0", "3.12", "JetPack 7.2 brings Python 3.12, the release is for 3.10; type: mu-flash build "
                    "--board orin-nano-super --python 3.12"),
])
def test_another_jetpack(
    tmp_path: Path, release: Path, revision: str, python: str, words: str
) -> None:
    assert words in refused(make_l4t(tmp_path / "l4t", revision, python), release)


def test_a_root_file_system_that_is_not_whole(l4t: Path, release: Path) -> None:
    (l4t / "rootfs/usr/bin/python3.10").unlink()
    assert "has no usr/bin/python3.10; take NVIDIA's basic or desktop" in refused(l4t, release)
    (l4t / "rootfs/etc/nv_tegra_release").write_text("nonsense " * 100)
    assert "Jetson Linux is 'nonsense nonsense" in refused(l4t, release)


def test_someone_elses_root_file_system(
    l4t: Path, release: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    assert f"belongs to user {owner}, and so must what is laid there; type the same with sudo" in (
        refused(l4t, release))


@pytest.mark.parametrize("name", ["opt", "var/lib", "etc/spikewire"])
def test_a_link_that_leads_out_is_not_followed(
    l4t: Path, release: Path, tmp_path: Path, name: str
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    place = l4t / "rootfs" / name
    if place.is_dir():
        place.rmdir()
    place.symlink_to(outside)
    with pytest.raises(InputError, match=r"a link leads out of .*; unpack the root file system"):
        inject(l4t, release, SIGNERS, believe)
    assert list(outside.iterdir()) == []


def test_a_release_that_changes_under_the_hand(l4t: Path, release: Path, tmp_path: Path) -> None:
    """After the check: every copy is hashed, and no link out of the release is followed."""
    (release / "bundle.mub").write_bytes(b"bundlE")
    assert "bundle.mub: sha256 is not that of release.json" in refused(l4t, release)
    (release / "bundle.mub").unlink()
    (release / "bundle.mub").symlink_to("/etc/hostname")
    assert "bundle.mub: not a file of the release" in refused(l4t, release)
    (release / "bundle.mub").unlink()
    assert "bundle.mub: not a file of the release" in refused(l4t, release)


# NVIDIA, Jetson Linux Developer Guide, "Quick Start", r36.4.3, r38.2 and r39.2.
INITRD = "sudo ./tools/kernel_flash/l4t_initrd_flash.sh"
QSPI = ('-c tools/kernel_flash/flash_l4t_t234_nvme.xml -p "-c bootloader/generic/cfg/'
        'flash_t234_qspi.xml" --showlogs --network usb0 jetson-orin-nano-devkit-super internal')
COMMANDS = [
    ("orin-nano-super", "6.2", None, f"{INITRD} --external-device nvme0n1p1 {QSPI}"),
    ("orin-nano-super", "6.2.1", "sd", f"{INITRD} --external-device mmcblk0p1 {QSPI}"),
    ("orin-nano-super", "7.2", "nvme",
     "sudo ./l4t_initrd_flash.sh --erase-all jetson-orin-nano-devkit-super internal"),
    ("orin-nx-16", "6.2", "nvme", f"{INITRD} --external-device nvme0n1p1 {QSPI}"),
    ("agx-orin-64", "6.2", None, "sudo ./flash.sh jetson-agx-orin-devkit internal"),
    ("agx-orin-64", "6.2", "nvme", f"{INITRD} --external-device nvme0n1p1 -c tools/kernel_flash/"
     "flash_l4t_t234_nvme.xml --showlogs --network usb0 jetson-agx-orin-devkit external"),
    ("thor-t5000", "7.2.1", "nvme", "sudo ./l4t_initrd_flash.sh jetson-agx-thor-devkit internal"),
]


@pytest.mark.parametrize(("board", "jetpack", "storage", "command"), COMMANDS)
def test_the_command_is_nvidias(
    board: str, jetpack: str, storage: str | None, command: str
) -> None:
    assert flash_command(read_board(board), jetpack, storage).command == command


@pytest.mark.parametrize(("board", "jetpack", "storage", "words"), [
    ("orin-nano-super", "6.1", None, "JetPack is '6.1', allowed are 6.2, 7.2"),
    ("orin-nano-super", "6", None, "JetPack is '6', allowed are 6.2, 7.2"),
    ("orin-nano-super", "6.20", None, "JetPack is '6.20', allowed are 6.2, 7.2"),
    ("orin-nx-16", "6.2", "sd", "storage is 'sd', allowed with JetPack 6.2 are nvme"),
    ("thor-t5000", "6.2", "nvme", "JetPack is '6.2', allowed are 7.1, 7.2"),
    ("generic-aarch64", "6.2", None, "has no flash tool of NVIDIA's; install its system as its"),
])
def test_what_cannot_be_flashed(
    board: str, jetpack: str, storage: str | None, words: str
) -> None:
    with pytest.raises(InputError) as caught:
        flash_command(read_board(board), jetpack, storage)
    assert str(caught.value).startswith(f"board {board}: ")
    assert words in str(caught.value)


def mu_flash(*words: str) -> int:
    """The two commands as mu-flash runs them."""
    top = argparse.ArgumentParser(prog="mu-flash")
    flash_image.add_parser(top.add_subparsers())
    args = top.parse_args(words)
    return guarded("mu-flash", lambda: args.run(args))


def test_only_the_command_goes_to_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    assert mu_flash("image-cmd", "--board", "agx-orin-64", "--jetpack", "6.2") == 0
    out, err = capsys.readouterr()
    assert out == "sudo ./flash.sh jetson-agx-orin-devkit internal\n"
    assert "erases the board" in err
    assert "verified = 'none': nobody has run it here" in err
    assert mu_flash("image-cmd", "--board", "jetson-nano", "--jetpack", "4.6") == 2
    assert capsys.readouterr().err.startswith("mu-flash: board jetson-nano is not supported: ")


def test_a_release_signed_by_another_key_is_refused(
    l4t: Path, release: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("spikewire.onboard.releases", reason="the board's check is not here")
    if not shutil.which("ssh-keygen"):
        pytest.skip("needs: apt install openssh-client")
    for name in ("mine", "other"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / name],
                       check=True)
    (release / "release.json.sig").unlink()
    subprocess.run(["ssh-keygen", "-q", "-Y", "sign", "-n", "spikewire-release", "-f",
                    tmp_path / "mine", release / "release.json"], check=True)
    words = ("inject", "--l4t", str(l4t), "--release", str(release), "--key")
    assert mu_flash(*words, str(tmp_path / "other.pub")) == 2
    assert "bad signature" in capsys.readouterr().err
    assert not (l4t / "rootfs/opt/spikewire").exists()
    assert mu_flash(*words, str(tmp_path / "mine.pub")) == 0
    signers = (l4t / "rootfs/etc/spikewire/allowed_signers").read_text()
    assert signers.startswith('spikewire namespaces="spikewire-release" ssh-ed25519 AAAA')
    (release / "extra").write_text("x")
    assert mu_flash(*words, str(tmp_path / "mine.pub")) == 2
    assert "'extra': not listed in release.json; build the release again" in capsys.readouterr().err


@pytest.mark.parametrize(("content", "words"), [
    (None, "cannot read the public key (No such file"), (b"\xff", "cannot read the public key"),
    (b"-----BEGIN OPENSSH PRIVATE KEY-----\n", "not a public key; allowed is the .pub file"),
    (b"ssh-ed25519 " + b"A" * 68 + b"\nspikewire ssh-ed25519 AAAA", "not a public key"),
])
def test_what_is_no_public_key(
    l4t: Path, release: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    content: bytes | None, words: str
) -> None:
    key = tmp_path / "key.pub"
    if content is not None:
        key.write_bytes(content)
    assert mu_flash("inject", "--l4t", str(l4t), "--release", str(release), "--key", str(key)) == 2
    assert words in capsys.readouterr().err


def test_the_boards_own_boot_check_runs_it_on_trial(l4t: Path, release: Path) -> None:
    releases = pytest.importorskip("spikewire.onboard.releases", reason="not here")
    inject(l4t, release, SIGNERS, releases.verify_folder)
    root = l4t / "rootfs"
    current = os.readlink(root / "opt/spikewire/current")
    for boot in (1, 2):
        done = subprocess.run([sys.executable, "-m", "spikewire.onboard", "--root", str(root),
                               "boot-check"], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        state = json.loads((root / "var/lib/spikewire/state.json").read_text())
        assert (state["tries"], f"releases/{state['trial']}") == (boot, current)
        assert os.readlink(root / "opt/spikewire/current") == current


def test_the_key_is_the_one_that_build_signs_with(monkeypatch, tmp_path) -> None:
    """It was looked for in ~/.config wherever XDG_CONFIG_HOME pointed."""
    from spikewire.commands import flash

    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    words = ["inject", "--l4t", str(tmp_path), "--release", str(tmp_path)]
    assert flash.parser().parse_args(words).key == tmp_path / "spikewire/release_key.pub"
