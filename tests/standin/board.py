"""The stand-in board: a folder that is its disk, a PID namespace that is its power switch.

Killing PID 1 of a PID namespace makes the kernel kill every process in it at once, which is as near
to pulling the plug as a machine can come that keeps its page cache. Two kinds of board:

arm64   real Debian arm64 programs under qemu-user, started through proot
native  this machine's own programs in a folder of its own (chroot), for what is too slow emulated
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import rootfs

HERE = Path(__file__).resolve().parent
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
HOST = "standin"
COMPATIBLE = ("spikewire,standin-arm64", "spikewire,standin")
L4T = "# R36 (release), REVISION: 4.3, GCID: 0, BOARD: generic, EABI: aarch64, DATE: stand-in\n"
# NVIDIA's names and IDs of an Orin Nano Super; the modes themselves do nothing here.
POWER_MODES = "".join(f"< POWER_MODEL ID={i} NAME={name} >\n" for i, name in
                      enumerate(("15W", "25W", "MAXN_SUPER", "7W"))) + "< PM_CONFIG DEFAULT=0 >\n"
OF_THE_HOST = ("usr", "bin", "sbin", "lib", "lib64", "etc/alternatives", "etc/ssl")


class Board:
    """A board that can be switched on, reached by ssh, and cut from its power.

    Parameters
    ----------
    where : Path
        Folder for its disk, keys and settings.
    kind : str
        "arm64" or "native".
    base : Path or None
        Root file system that an arm64 board's disk is copied from.
    slow : float
        Time limits of units are this many times longer.
    disk_mb : int
        Size of the file system under /opt; 0 is that of this machine.
    """

    def __init__(self, where: Path, kind: str, base: Path | None = None, slow: float = 1,
                 disk_mb: int = 0) -> None:
        self.where, self.kind, self.slow, self.disk_mb = where.resolve(), kind, slow, disk_mb
        self.root = self.where / "root"
        self.process: subprocess.Popen[bytes] | None = None
        shutil.rmtree(self.where, ignore_errors=True)
        self.where.mkdir(parents=True)
        if kind == "arm64":
            assert base
            self.root.mkdir()
            subprocess.run(["cp", "-a", f"{base}/.", self.root], check=True)
        else:
            self._native_root()
        self._dress()
        self._keys()
        self.port = self._ssh()

    # The disk.

    def _native_root(self) -> None:
        for name in (*OF_THE_HOST, "dev", "proc", "sys", "run", "tmp", "root", "opt", "var/log"):
            if (Path("/") / name).is_symlink():
                self.root.mkdir(exist_ok=True)
                (self.root / name).symlink_to(os.readlink(Path("/") / name))
            elif (Path("/") / name).exists():
                (self.root / name).mkdir(parents=True)
        for name, text in rootfs.WRITTEN.items():
            (self.root / name).write_text(text)

    def _dress(self) -> None:
        """What makes a Jetson recognisable, and the scripted tools."""
        root = self.root
        for name in ("etc/standin", "etc/systemd/system", "etc/udev/rules.d", "run/standin",
                     "var/log", "opt/standin/bin", "opt/spikewire"):
            (root / name).mkdir(parents=True, exist_ok=True)
        (root / "etc/nv_tegra_release").write_text(L4T)
        (root / "etc/nvpmodel.conf").write_text(POWER_MODES)
        (root / "etc/standin/power_mode").write_text("0\n")
        (root / "etc/standin/compatible").write_bytes(
            b"".join(word.encode() + b"\0" for word in COMPATIBLE))
        for tool in (HERE / "tools").iterdir():
            shutil.copy(tool, root / "opt/standin/bin" / tool.name)
        shutil.copy(HERE / "tools/systemctl", root / "opt/standin/bin/journalctl")
        (root / "var/log/standin.journal").touch()

    # The way in.

    def _keys(self) -> None:
        for name in ("host_key", "user_key"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f",
                            self.where / name], check=True)

    def _ssh(self) -> int:
        """Settings of sshd and of a client that knows nothing of ~/.ssh; the port."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = int(free.getsockname()[1])
        enter = self.where / "enter"
        quoted = " ".join(f"'{word}'" for word in self.enter())
        enter.write_text(f"#!/bin/sh\nexec env -i HOME=/root USER=root PATH={self.path} {quoted} "
                         '/bin/sh -c "${SSH_ORIGINAL_COMMAND:-exec /bin/sh}"\n')
        enter.chmod(0o755)
        (self.where / "sshd_config").write_text(
            f"ListenAddress 127.0.0.1:{port}\nHostKey {self.where}/host_key\n"
            f"AuthorizedKeysFile {self.where}/user_key.pub\nStrictModes no\nUsePAM no\n"
            f"PasswordAuthentication no\nPidFile none\nForceCommand {enter}\n"
            "PermitRootLogin prohibit-password\nMaxStartups 50\nLogLevel ERROR\n"
            "Subsystem sftp /usr/lib/openssh/sftp-server\n")
        known = (self.where / "host_key.pub").read_text().split()
        (self.where / "known_hosts").write_text(f"[127.0.0.1]:{port} {known[0]} {known[1]}\n")
        (self.where / "ssh_config").write_text(
            f"Host {HOST}\n  HostName 127.0.0.1\n  Port {port}\n  User root\n"
            f"  IdentityFile {self.where}/user_key\n  IdentitiesOnly yes\n  IdentityAgent none\n"
            f"  UserKnownHostsFile {self.where}/known_hosts\n  GlobalKnownHostsFile /dev/null\n"
            "  StrictHostKeyChecking yes\n  BatchMode yes\n")
        (self.where / "passwd").write_text("".join(
            ":".join([*line.split(":")[:5], str(self.where), "/bin/sh"]) + "\n"
            for line in Path("/etc/passwd").read_text().splitlines()))
        (self.where / "bin").mkdir()
        for tool in ("ssh", "scp", "sftp"):
            script = self.where / "bin" / tool
            script.write_text(f'#!/bin/sh\nexec {shutil.which(tool)} -F {self.where}/ssh_config '
                              '"$@"\n')
            script.chmod(0o755)
        return port

    @property
    def path(self) -> str:
        return f"/opt/standin/bin:{PATH}"

    def env(self) -> dict[str, str]:
        """The workstation's environment in which `ssh standin` reaches this board."""
        folder = self.where / "tmp"  # connections that are killed leave things there
        folder.mkdir(exist_ok=True)
        return os.environ | {"PATH": f"{self.where}/bin:{os.environ['PATH']}",
                             "TMPDIR": str(folder)}

    def enter(self) -> list[str]:
        """The command before a command that makes it run on the board."""
        if self.kind == "native":
            return ["/usr/sbin/chroot", str(self.root)]
        device_tree = f"{self.root}/etc/standin/compatible:/proc/device-tree/compatible"
        return [shutil.which("proot") or "proot", "-q", "qemu-aarch64-static", "-0", "-r",
                str(self.root), "-b", "/proc", "-b", "/dev", "-b", device_tree, "-w", "/"]

    # Power.

    def on(self) -> None:
        """Boot it and wait until its units have been started; RuntimeError if that never is."""
        assert self.process is None
        for stale in (self.root / "run").glob("*"):  # a tmpfs on a real board
            shutil.rmtree(stale) if stale.is_dir() and not stale.is_symlink() else stale.unlink()
        (self.root / "run/standin").mkdir()
        Path("/run/sshd").mkdir(exist_ok=True)
        (self.where / "how.json").write_text(json.dumps({
            "enter": self.enter(), "slow": self.slow, "path": self.path, "mounts": self._mounts(),
            "old_kernel": self.kind == "arm64",
            "ssh": ["/usr/sbin/sshd", "-D", "-e", "-f", str(self.where / "sshd_config")]}))
        with open(self.where / "console.log", "ab") as console:
            self.process = subprocess.Popen(
                # A board has its processor for itself; a test that is killed takes it along.
                ["nice", "-n", "-15", "setpriv", "--pdeathsig", "KILL",
                 "unshare", "--pid", "--mount", "--fork", "--mount-proc", "--kill-child",
                 sys.executable, HERE / "supervisor.py", self.root, self.where / "how.json"],
                stdin=subprocess.DEVNULL, stdout=console, stderr=console, cwd="/")
        deadline = time.monotonic() + 60 * self.slow
        while not (self.root / "run/standin/booted").exists() or not self._listens():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the board did not boot; see {self.where}/console.log")
            time.sleep(0.02)

    def _listens(self) -> bool:
        with socket.socket() as link:
            return link.connect_ex(("127.0.0.1", self.port)) == 0

    def _mounts(self) -> list[list[str]]:
        # sshd starts the shell of a user: one without start-up files of this machine's.
        mounts = [["mount", "--bind", str(self.where / "passwd"), "/etc/passwd"]]
        if self.kind == "native":
            own = [n for n in OF_THE_HOST if (self.root / n).is_dir()
                   and not (self.root / n).is_symlink()]
            mounts += [["mount", "--bind", "-o", "ro", f"/{n}", str(self.root / n)] for n in own]
            mounts += [["mount", "--rbind", f"/{n}", str(self.root / n)] for n in ("dev", "proc")]
        if self.disk_mb:
            mounts.append(["mount", "-t", "tmpfs", "-o", f"size={self.disk_mb}m", "standin",
                           str(self.root / "opt/spikewire")])
        return mounts

    @property
    def disk(self) -> Path:
        """Its disk as the board sees it, what is mounted there included."""
        return Path(f"/proc/{self._first()}/root{self.root}") if self.disk_mb else self.root

    def _first(self) -> int:
        """PID 1 of the board, by its number out here."""
        assert self.process
        task = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return int(task.read_text().split()[0])

    def cut(self) -> None:
        """Pull the plug: every process of the board is gone when this returns."""
        assert self.process
        os.kill(self._first(), signal.SIGKILL)
        self.process.wait()  # unshare waits for PID 1, and that is gone last
        self.process = None

    def __enter__(self) -> Board:
        self.on()
        return self

    def __exit__(self, *_: object) -> None:
        if self.process:
            self.cut()

    def run(self, command: str, **options: object) -> subprocess.CompletedProcess[str]:
        """A command on the board, over ssh."""
        return subprocess.run(["ssh", HOST, command], env=self.env(), text=True,
                              capture_output=True, **options)  # type: ignore[call-overload]
