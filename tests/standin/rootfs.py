"""An arm64 root file system of real Debian packages, unpacked without running any of them.

`debootstrap --foreign` fetches and checks the packages; its second stage would run every package's
scripts under emulation for three minutes and nothing here needs them, so all are only unpacked.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

SUITE = "bookworm"
PACKAGES = "python3,openssh-client,openssh-sftp-server,rsync"
TOOLS = {  # program: Debian package
    "debootstrap": "debootstrap", "proot": "proot", "qemu-aarch64-static": "qemu-user-static",
    "/usr/sbin/sshd": "openssh-server", "ssh-keygen": "openssh-client", "rsync": "rsync",
    "unshare": "util-linux", "dpkg-deb": "dpkg", "cmake": "cmake",
    "aarch64-linux-gnu-g++": "g++-aarch64-linux-gnu",
}
# What the packages' own scripts would have written and something on the board asks for.
WRITTEN = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
    "etc/group": "root:x:0:\ntty:x:5:\ndialout:x:20:\nvideo:x:44:\nrender:x:107:\n",
    "etc/hostname": "standin\n",
    "etc/hosts": "127.0.0.1 localhost standin\n",
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",
}
# A third of the size, and nothing on the board reads it.
USELESS = ("var/cache/apt", "var/lib/apt", "usr/share/doc", "usr/share/man", "usr/share/locale",
           "usr/share/zoneinfo", "debootstrap")


def missing() -> list[str]:
    """Debian packages that this machine lacks."""
    return sorted({package for tool, package in TOOLS.items() if not shutil.which(tool)})


def build(where: Path) -> Path:
    """Make the root file system at `where` unless it is there; 40 s and 170 MB."""
    if where.is_dir():
        return where
    part = where.with_name(where.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["debootstrap", "--arch=arm64", "--variant=minbase", "--foreign",
                    f"--include={PACKAGES}", SUITE, part], check=True, stdout=sys.stderr)
    for package in sorted((part / "var/cache/apt/archives").glob("*.deb")):
        unpack(package, part)
    tidy(part)
    part.rename(where)
    return where


def unpack(package: Path, root: Path) -> None:
    """Unpack a package; /bin and /lib stay the links that they are on a merged system."""
    listing = subprocess.Popen(["dpkg-deb", "--fsys-tarfile", package], stdout=subprocess.PIPE)
    subprocess.run(["tar", "-x", "--keep-directory-symlink", "-C", root], stdin=listing.stdout,
                   check=True)
    if listing.wait():
        raise SystemExit(f"{package.name} cannot be read; remove {root} and try again")


def tidy(root: Path) -> None:
    """Take away what nothing reads and write what no package's script has written."""
    for name in USELESS:
        shutil.rmtree(root / name, ignore_errors=True)
    if (root / "proc").is_symlink():  # debootstrap's way out where it may not mount
        (root / "proc").unlink()
    for name in ("proc", "sys", "dev", "run", "tmp", "root", "opt"):
        (root / name).mkdir(exist_ok=True)
    for name, text in WRITTEN.items():
        (root / name).write_text(text)


if __name__ == "__main__":
    print(" ".join(missing()))  # for apt-get install
