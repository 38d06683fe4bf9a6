"""mu-flash over a real sshd on loopback, with keys of its own; the board is a folder (`--root`).

Skipped where sshd, ssh or rsync is missing. Programs of the board are scripts in its bin/ folder.
"""

from __future__ import annotations

import getpass
import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from board_world import make_key, make_release, make_root, zipapp
from hypothesis import given
from hypothesis import strategies as st

from spikewire import deploy, remote
from spikewire.commands import flash
from spikewire.onboard import states
from spikewire.onboard.place import Place
from spikewire.remote import Connection, Host
from spikewire.signals import InputError

SSHD = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")
needs_sshd = pytest.mark.skipif(
    not (SSHD and shutil.which("ssh") and shutil.which("rsync")),
    reason="needs sshd, ssh and rsync; type: apt install openssh-server rsync")
HERE = f"{getpass.getuser()}@127.0.0.1"


class Station:
    """A board behind sshd, and a workstation with a key that it lets in."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("host", "user"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name],
                           check=True)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.place = make_root(folder / "root")
        self.place.signers.unlink()
        keys = folder / "authorized_keys"
        keys.write_text((folder / "user.pub").read_text())
        config = folder / "sshd_config"
        config.write_text(
            f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nUsePAM no\n"
            f"AuthorizedKeysFile {keys}\nStrictModes no\nPidFile {folder}/pid\n"
            f"PermitRootLogin yes\nSetEnv PATH={self.place.root}/bin:{os.environ['PATH']}\n")
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)  # sshd asks for it
        known = folder / "known_hosts"
        known.write_text(f"[127.0.0.1]:{self.port} {(folder / 'host.pub').read_text()}")
        options = (f"IdentityFile={folder}/user", "IdentityAgent=none",
                   f"UserKnownHostsFile={known}")
        self.options = [f"--ssh-option={option}" for option in options]
        with open(folder / "log", "wb") as log:
            self.sshd = subprocess.Popen([str(SSHD), "-D", "-e", "-f", config], stderr=log)
        for _ in range(250):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    break
            time.sleep(0.02)
        self.key = make_key(folder)
        self.program = folder / "onboard.pyz"
        zipapp(self.program)
        # A login may bring another Python than the one that runs the tests.
        asked = ["ssh", "-F", "none", "-p", str(self.port), *(f"-o{o}" for o in options), HERE,
                 "python3 -c 'import sys; print(sys.version_info[1])'"]
        self.python = f"3.{subprocess.check_output(asked, text=True).strip()}"

    def release(self, version: str, behaviour: str = "good") -> Path:
        return make_release(self.folder, version, behaviour, self.key, self.program,
                            python=self.python)

    def flash(self, verb: str, *words: object, host: str = HERE) -> int:
        more = ["--key", self.key, "--watch", "0.3"] if verb == "deploy" else []
        return flash.main([str(w) for w in (verb, host, *words, "-p", self.port, *self.options,
                                            "--root", self.place.root, *more)])

    def close(self) -> None:
        self.sshd.terminate()
        self.sshd.wait()
        subprocess.run([self.place.root / "bin/systemctl", "stop"], check=False)


@pytest.fixture(scope="module")
def station(tmp_path_factory) -> Iterator[Station]:
    station = Station(tmp_path_factory.mktemp("s"))
    yield station
    station.close()


@pytest.fixture
def board(station: Station) -> Iterator[Station]:
    """The same sshd, with nothing deployed."""
    subprocess.run([station.place.root / "bin/systemctl", "stop"], check=False)
    for folder in ("opt", "var", "etc/systemd", "etc/udev", "etc/spikewire"):
        shutil.rmtree(station.place.root / folder, ignore_errors=True)
    return station


def calls(place: Place) -> str:
    return (place.root / "run/systemctl.log").read_text()


@needs_sshd
def test_a_life_of_a_board(board: Station, capsys) -> None:
    assert board.flash("status") == 2
    assert "has no spikewire yet; type: mu-flash deploy" in capsys.readouterr().err
    first, second = board.release("1.A"), board.release("2.B")
    assert board.flash("deploy", first) == 0
    out = capsys.readouterr().out
    assert "verified = 'none'" in out
    assert "first deploy: from now on this board takes releases of spikewire" in out
    assert board.flash("deploy", second) == 0
    place = board.place
    assert (place.named(place.current), place.named(place.previous)) == (second.name, first.name)
    runs = json.loads(place.status.read_text())
    assert runs["release"] == second.name
    assert (place.root / "opt/spikewire/onboard.pyz").read_bytes() == board.program.read_bytes()
    capsys.readouterr()

    seen = calls(place)
    assert board.flash("deploy", second) == 0  # unchanged
    assert "runs there already" in capsys.readouterr().out
    assert "restart" not in calls(place).removeprefix(seen)

    assert board.flash("status", "--json") == 0
    *lines, data = map(json.loads, capsys.readouterr().out.splitlines())
    assert {"step", "state", "evidence", "remedy"} == set(lines[0])
    assert (data["good"], data["verified"], data["proven"]) == (
        second.name, "none", [first.name, second.name])

    assert board.flash("rollback") == 0
    assert "verified = 'none'" in capsys.readouterr().out
    assert json.loads(place.status.read_text())["release"] == first.name
    for verb in ("bench", "doctor"):
        assert board.flash(verb) == 0
        out = capsys.readouterr().out
        assert "200 windows" in out
        assert "verified = 'none'" in out
    (place.root / "run/runtime.log").write_text("\x1b[2Jsteps 100\n")
    assert board.flash("logs", "-n", 5) == 0
    assert capsys.readouterr().out == "[2Jsteps 100\n"


@needs_sshd
@pytest.mark.parametrize(("behaviour", "words"), [
    ("dies", "the runtime is failed: engine: lost the GPU"),
    ("self-test", "golden: 3 of 200 windows differ")])
def test_a_release_that_does_not_live_is_undone(board: Station, behaviour, words, capsys) -> None:
    good = board.release("1.A")
    assert board.flash("deploy", good) == 0
    bad = board.release("2.B", behaviour)
    assert board.flash("deploy", bad, "--watch", 2) == 1
    assert words in capsys.readouterr().out
    assert json.loads(board.place.status.read_text())["release"] == good.name
    assert states.read(board.place).good == good.name
    if behaviour == "dies":  # later, when nobody looks: what mu-rollback.service does
        place = board.place
        assert board.flash("deploy", board.release("3.C")) == 0
        subprocess.run(["python3", place.program, "--root", place.root, "rollback"], check=True,
                       env={**os.environ, "PATH": f"{place.root}/bin:{os.environ['PATH']}"},
                       stdout=subprocess.DEVNULL)
        assert json.loads(place.status.read_text())["release"] == good.name


@needs_sshd
def test_another_key_is_refused_by_the_board(board: Station, tmp_path, capsys) -> None:
    assert board.flash("deploy", board.release("1.A")) == 0
    other = make_key(tmp_path)
    theirs = make_release(tmp_path, "2.B", key=other, program=board.program,
                          python=board.python)
    args = ["deploy", HERE, str(theirs), "-p", str(board.port), *board.options, "--root",
            str(board.place.root), "--key", f"{other}.pub"]
    assert flash.main(args) == 1
    out = capsys.readouterr().out
    assert "your key is not in the board's" in out
    assert "bad signature, or by no key" in out
    assert board.place.named(board.place.current).startswith("1.A")


@needs_sshd
def test_an_install_goes_on_when_the_connection_dies(board: Station) -> None:
    release = board.release("1.A")
    host = Host(HERE, board.port, tuple(o.removeprefix("--ssh-option=") for o in board.options))
    ready = deploy.read_release(release, board.key)
    with Connection(host) as connection:
        heard = []

        def tell(line) -> None:
            heard.append(line.step)
            if line.step == "power":
                subprocess.run([*connection._ssh(), "-O", "exit", host.bare], check=True,
                               stderr=subprocess.DEVNULL)

        with pytest.raises(InputError, match="the board goes on by itself: look with mu-"):
            deploy.deploy(connection, ready, tell, 0.3, str(board.place.root))
    for _ in range(500):
        if states.read(board.place).good == release.name:
            break
        time.sleep(0.02)
    assert states.read(board.place).good == release.name
    assert "install" not in heard


@needs_sshd
def test_nothing_is_left_of_the_connection(board: Station) -> None:
    host = Host(HERE, board.port, tuple(o.removeprefix("--ssh-option=") for o in board.options))
    with Connection(host) as connection:
        assert connection.run(["echo", "$(id); 'a' \"b\"", "-n"]) == (0, "$(id); 'a' \"b\" -n\n")
        folder = Path(connection._folder.name)
        assert folder.stat().st_mode & 0o077 == 0
        assert (folder / "s").exists()
    assert not folder.exists()


@needs_sshd
def test_why_a_board_does_not_answer(board: Station, tmp_path, capsys) -> None:
    bare = ["status", HERE, "-p", str(board.port), "--root", "/x"]
    assert flash.main([*bare, f"--ssh-option=UserKnownHostsFile={tmp_path}/none"]) == 2
    error = capsys.readouterr().err
    assert "type once: ssh" in error
    assert error.count("\n") == 1
    known = next(o for o in board.options if "KnownHosts" in o)
    assert flash.main([*bare, known, "--ssh-option=IdentityFile=/dev/null",
                       "--ssh-option=IdentitiesOnly=yes", "--ssh-option=IdentityAgent=none"]) == 2
    assert "type once: ssh-copy-id" in capsys.readouterr().err
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        assert flash.main(["status", HERE, "-p", str(free.getsockname()[1])]) == 2
    assert "start sshd there, or give its port with -p" in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["deploy", "status", "rollback", "logs", "bench", "doctor"])
def test_a_dry_run_only_says(verb, tmp_path, capsys, monkeypatch) -> None:
    more = []
    if verb == "deploy":
        key = make_key(tmp_path)
        more = [str(make_release(tmp_path, "1.A", key=key)), "--key", str(key)]
    monkeypatch.setattr(remote, "subprocess", None)  # any use of it fails
    assert flash.main([verb, "root@board", *more, "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "ssh -o BatchMode=yes" in out
    if verb == "deploy":
        assert "verified = 'none'" in out
        assert [line.split()[1] for line in out.splitlines()] == [
            "board", "release", "status", "stage", "head", "preflight", "copy", "install"]


@pytest.mark.parametrize(("words", "says"), [
    (["status", "-oProxyCommand=x"], None),
    (["status", "--", "-oProxyCommand=x"], "allowed are HOST, USER@HOST and [IPv6]"),
    (["status", "root@a;b"], "allowed are HOST"),
    (["status", "a b"], "allowed are HOST"),
    (["status", "a@-b"], "allowed are HOST"),
    (["status", "$(id)"], "allowed are HOST"),
    (["status", "h", "-p", "0"], "-p 0: allowed is 1 to 65535"),
    (["status", "h", "--ssh-option", "-v"], None),
    (["status", "h", "--ssh-option=-v"], "--ssh-option '-v': allowed is KEY=VALUE"),
    (["logs", "h", "-n", "0"], "-n is 0, allowed is 1"),
    (["deploy", "h", "no"], "no such folder; make one with mu-flash build"),
    (["deploy", "h", "x.tar"], "is a tar; type: tar xf x.tar, and give the folder"),
    (["deploy", "h", ".", "--key", "none"], "none.pub: cannot be read"),
    (["deploy", "h", ".", "--key", "x.tar.pub"], "not a public key"),
    (["deploy", "h", ".", "--watch", "0"], "--watch is 0, allowed is up to 600 s"),
])
def test_words_that_are_refused(words, says, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.tar").write_text("")
    (tmp_path / "x.tar.pub").write_text("hello")
    if says is None:
        with pytest.raises(SystemExit):
            flash.main(words)
        return
    assert flash.main(words) == 2
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1


@given(st.text(max_size=30))
def test_a_host_is_never_an_option_or_shell_text(word: str) -> None:
    try:
        host = Host(word)
    except InputError:
        return
    assert not host.bare.startswith("-")
    assert not set(word) & set(" \t\n;|&$`'\"\\<>(){}*?!#/=,")
    command = Connection(host).command(["a b", "$(id)"])
    assert command[-2:] == [host.bare, "'a b' '$(id)'"]
    assert command[-3] == "--"


def test_a_user_who_is_not_root_works_through_sudo(monkeypatch) -> None:
    connection = Connection(Host("me@board"))
    board = deploy.Board(connection, print)
    answers = {"root": "0\n/usr/bin/python3\n/usr/bin/rsync\n",
               "sudo": "1000\n/usr/bin/python3\n/usr/bin/rsync\nsudo\nonboard\n",
               "none": "1000\n/usr/bin/python3\n/usr/bin/rsync\nsudo: a password is required\n",
               "bare": "0\n/usr/bin/python3\n"}
    monkeypatch.setattr(connection, "run", lambda words: (0, answers[who]))
    who = "root"
    assert board.meet() is False
    assert connection.sudo is False
    who = "none"
    with pytest.raises(InputError, match="this user may not become root; deploy to root@HOST"):
        board.meet()
    who = "bare"
    with pytest.raises(InputError, match="has no rsync; type there: apt install rsync"):
        board.meet()
    who = "sudo"
    assert board.meet() is True
    assert connection.command(["a"])[-1] == "sudo -n a"
    assert "sudo -n rsync" in connection.rsync(["x"], "/y")


@given(st.text() | st.binary().map(lambda raw: raw.decode(errors="replace")))
def test_whatever_a_board_prints_is_shown_tame(text: str) -> None:
    line, data = deploy.parse(text)
    assert data == {}
    if line:
        assert all(word.isprintable() for word in line)


def test_a_broken_release_does_not_leave_this_machine(tmp_path, capsys) -> None:
    key = make_key(tmp_path)
    release = make_release(tmp_path, "1.A", key=key)
    (release / "bundle.mub").write_bytes(b"x")
    assert flash.main(["deploy", "nowhere", str(release), "--key", str(key)]) == 2
    assert "'bundle.mub': its bytes are not those" in capsys.readouterr().err
