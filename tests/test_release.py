"""Releases of small wheels that are made here, read by tarfile, ssh-keygen and readelf.

And real ones, where their wheels are kept from an earlier build.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
import types
import zipfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from test_elf import make_elf

from spikewire import release, shim, signing, wheels
from spikewire.bundle import arm_id, read_bundle
from spikewire.commands import flash_build, guarded
from spikewire.io.npz import write_recording
from spikewire.release import build
from spikewire.signals import InputError, Recording

pytestmark = pytest.mark.skipif(not shutil.which("ssh-keygen"), reason="needs openssh-client")
ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Facts:
    """What a release reads of a board."""

    id: str = "tiny"
    supported: bool = True
    reason: str = ""
    arch: str = "aarch64"
    python: tuple[str, ...] = ("3.10", "3.12")
    glibc: str = "2.35"
    engine: str = "native"
    verified: str = "none"


UNITS = {"mu-runtime.service": "[Service]\nType=notify\n"}
RULES = {"60-spikewire.rules": 'SUBSYSTEM=="tty"\n'}


def make_wheel(folder: Path, name: str, files: dict[str, bytes]) -> Path:
    """A wheel by the specification, written file by file."""
    project, version, *tag = name.removesuffix(".whl").split("-")
    info = f"{project}-{version}.dist-info"
    files = {**files, f"{info}/METADATA":
             f"Metadata-Version: 2.1\nName: {project}\nVersion: {version}\n".encode(),
             f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: here\nRoot-Is-Purelib: false\n"
                              f"Tag: {'-'.join(tag)}\n".encode()}
    files[f"{info}/RECORD"] = "".join(f"{n},,\n" for n in [*files, f"{info}/RECORD"]).encode()
    with zipfile.ZipFile(folder / name, "w") as packed:
        for each, content in files.items():
            packed.writestr(each, content)
    return folder / name


def library(python: str, arch: str = "aarch64") -> str:
    return f"fast/_core.cpython-{python}-{arch}-linux-gnu.so"


C_LIBRARY = make_elf(183, {"libc.so.6": ["GLIBC_2.17"], "libstdc++.so.6": ["GLIBCXX_3.4.29"]})


@pytest.fixture
def facts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand-ins for the modules that a release asks for a board's files."""
    board, units = types.ModuleType("board"), types.ModuleType("units")
    board.to_json = lambda facts: json.dumps(asdict(facts)).encode() + b"\n"
    board.read_board = lambda word: replace(Facts(), id=word)
    units.units, units.udev_rules = lambda facts: UNITS, lambda facts: RULES
    monkeypatch.setitem(sys.modules, "spikewire.board", board)
    monkeypatch.setitem(sys.modules, "spikewire.units", units)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, facts: None) -> Path:
    """A folder with an index of three wheels, and empty caches."""
    index = tmp_path / "index"
    index.mkdir()
    made = [make_wheel(index, "plain-1.0-py3-none-any.whl", {
        "plain/__init__.py": b"X = 1\n", "plain/fast.pyx": b"", "plain/tests/test_x.py": b"",
        "plain-1.0.data/scripts/plain": b"#!python\nprint()\n"})]
    made += [make_wheel(index, f"fast-2.0-cp{p}-cp{p}-manylinux2014_aarch64.whl", {
        "fast/__init__.py": b"", library(p): C_LIBRARY}) for p in ("310", "312")]
    listing(tmp_path, monkeypatch, *made)
    compiled = tmp_path / "libspikewire.so"
    compiled.write_bytes(C_LIBRARY)
    monkeypatch.setattr(release, "shim", lambda arch: compiled)
    monkeypatch.setattr(wheels, "GPU", {"cuda_tiny"})
    for name, value in {"XDG_CACHE_HOME": "cache", "XDG_CONFIG_HOME": "config",
                        "PIP_FIND_LINKS": "index"}.items():
        monkeypatch.setenv(name, str(tmp_path / value))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    return tmp_path


def listing(folder: Path, monkeypatch: pytest.MonkeyPatch, *made: Path) -> None:
    """Write the list of wheels, and take it."""
    rows = [f"{hashlib.sha256(p.read_bytes()).hexdigest()}  {p.name}\n" for p in made]
    (folder / "wheels.sha256").write_text("# a remark\n" + "".join(rows))
    monkeypatch.setattr(wheels, "LIST", folder / "wheels.sha256")


@pytest.fixture
def light(world: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same without pip, for what comes before and after it."""
    def lay(folder: Path, board: Facts, python: str) -> None:
        for name in ("site/a.py", "site/spikewire/lib/libspikewire.so", "bin/mu-run"):
            (folder / name).parent.mkdir(parents=True)
            (folder / name).write_bytes(C_LIBRARY)
        (folder / "board.json").write_text(repr((board, python)))

    monkeypatch.setattr(release, "lay", lay)
    return world


def test_a_release_holds_what_it_lists(world: Path, bundle_path: Path) -> None:
    """Every file under its hash and mode, of the right wheels, and no notes of pip's."""
    made = build(Facts(), bundle_path, world / "out", links=["serial:/dev/spikewire-exo?arm=1"],
                 run=["--realtime", "3"])
    content = (made / "release.json").read_bytes()
    record = json.loads(content)
    assert made.name == f"{release.__version__}-{hashlib.sha256(content).hexdigest()[:12]}"
    assert content == (json.dumps(record, sort_keys=True, separators=(",", ":")) + "\n").encode()
    bundle = read_bundle(bundle_path)
    assert {k: v for k, v in record.items() if k != "files"} == {
        "schema": 1, "version": release.__version__, "board": "tiny", "python": "3.10",
        "arch": "aarch64", "bundle": {"file": "bundle.mub", "id": f"{arm_id([bundle]):08x}",
                                      "sha256": bundle.sha256}}
    there = {p.relative_to(made).as_posix(): p for p in made.rglob("*") if p.is_file()}
    assert set(there) == {*record["files"], "release.json", "release.json.sig"}
    for name, row in record["files"].items():
        assert hashlib.sha256(there[name].read_bytes()).hexdigest() == row["sha256"]
        assert f"{there[name].stat().st_mode & 0o7777:04o}" == row["mode"]
        assert (row["mode"] == "0755") == name.startswith("bin/")
    assert {library("310"), "plain/__init__.py", "spikewire/lib/libspikewire.so",
            "spikewire/commands/run.py"} <= {n.removeprefix("site/") for n in there}
    noise = ("RECORD", "INSTALLER", "REQUESTED", "direct_url.json", ".pyc", ".pyx", "test_x.py")
    assert not [n for n in there if n.endswith(noise) or "/bin/" in n or "312" in n]
    assert (made / "run.env").read_text() == (
        'SPIKEWIRE_RUN="--source replay:/opt/spikewire/current/bundle.mub?loop=1 '
        '--link serial:/dev/spikewire-exo?arm=1 --realtime 3"\n')
    assert (made / "units/mu-runtime.service").read_text() == UNITS["mu-runtime.service"]
    assert (made / "udev/60-spikewire.rules").read_text() == RULES["60-spikewire.rules"]
    assert json.loads((made / "board.json").read_bytes())["glibc"] == "2.35"


def test_ssh_keygen_verifies_the_signature(light: Path, bundle_path: Path) -> None:
    made = build(Facts(), bundle_path, light / "out")
    key = light / "config/spikewire/release_key"
    assert key.stat().st_mode & 0o777 == 0o600
    kind, blob = key.with_suffix(".pub").read_text().split()[:2]
    (light / "signers").write_text(f"spikewire {kind} {blob}\n")

    def verified(content: bytes, namespace: str = "spikewire-release") -> bool:
        return subprocess.run(
            ["ssh-keygen", "-Y", "verify", "-f", str(light / "signers"), "-I", "spikewire", "-n",
             namespace, "-s", str(made / "release.json.sig")], input=content,
            capture_output=True).returncode == 0

    content = (made / "release.json").read_bytes()
    assert verified(content)
    assert not verified(content.replace(b"tiny", b"tony"))
    assert not verified(content, "git")


def test_same_inputs_same_bytes(world: Path, bundle_path: Path, monkeypatch) -> None:
    """Elsewhere, later, under another umask and another name of the bundle, with a warm cache."""
    first = build(Facts(), bundle_path, world / "out")
    time.sleep(1.1)  # zip and pip know seconds
    elsewhere = world / "some where/else"
    elsewhere.mkdir(parents=True)
    monkeypatch.chdir(elsewhere)
    shutil.copy(bundle_path, "other.mub")
    monkeypatch.setenv("TMPDIR", str(elsewhere))
    monkeypatch.setenv("PIP_FIND_LINKS", "/nowhere")
    before = os.umask(0o077)
    try:
        second = build(Facts(), Path("other.mub"), Path("out"), "3.10")
    finally:
        os.umask(before)
    assert second.name == first.name
    ours, theirs = (Path(f"{f}.tar").read_bytes() for f in (first, second))
    assert ours == theirs
    assert str(world).encode() not in ours
    assert b"some where" not in ours


def test_the_tar_is_the_folder_and_tells_nothing_else(light: Path, bundle_path: Path) -> None:
    made = build(Facts(), bundle_path, light / "out")
    with tarfile.open(f"{made}.tar") as tar:
        entries = tar.getmembers()
        content = {e.name: tar.extractfile(e).read() for e in entries if e.isfile()}
    assert [e.name for e in entries] == sorted((e.name for e in entries), key=Path)
    assert {(e.uid, e.gid, e.uname, e.gname, e.mtime) for e in entries} == {(0, 0, "", "", 0)}
    assert content == {f"{made.name}/{p.relative_to(made).as_posix()}": p.read_bytes()
                       for p in made.rglob("*") if p.is_file()}
    assert {e.mode for e in entries if e.isdir()} == {0o755}


def test_another_input_is_another_release(light: Path, bundle_path: Path) -> None:
    names = {build(Facts(), bundle_path, light / "out").name,
             build(Facts(), bundle_path, light / "out", "3.12").name,
             build(Facts(glibc="2.36"), bundle_path, light / "out").name,
             build(Facts(), bundle_path, light / "out", source="replay:/a.npz").name}
    assert len(names) == 4
    again = build(Facts(), bundle_path, light / "out")
    assert len(list((light / "out").iterdir())) == 2 * len(names)
    (again / "board.json").write_text("{}")  # somebody's hand
    again = build(Facts(), bundle_path, light / "out")
    assert "tiny" in (again / "board.json").read_text()


NEEDS_236 = make_elf(183, {"libc.so.6": ["GLIBC_2.36"]})


@pytest.mark.parametrize(("name", "content", "said"), [
    (library("310"), NEEDS_236, r"fast/_core.*needs GLIBC 2\.36, tiny has 2\.35; take an older"),
    (library("310"), make_elf(62, {}), r"fast/_core.* is for x86_64, tiny is aarch64"),
    (library("312"), C_LIBRARY, r"fast/_core.* is for CPython 312, wanted is 310"),
    ("fast.libs/libx.so.5", NEEDS_236, r"fast\.libs/libx\.so\.5 needs GLIBC 2\.36"),
    ("fast/data.bin", make_elf(183, {"libstdc++.so.6": ["GLIBCXX_3.4.31"]}),
     r"fast/data\.bin needs GLIBCXX 3\.4\.31, tiny has 3\.4\.30"),
    ("fast/_core.abi3.so", make_elf(183, {"libc.so.6": ["GLIBC_PRIVATE"]}), "needs GLIBC"),
    ("spikewire/lib/libspikewire.so", NEEDS_236, r"libspikewire\.so needs GLIBC 2\.36"),
    ("fast/_core.abi3.so", C_LIBRARY[:300], "damaged ELF"),
])
def test_what_the_board_would_not_load_is_refused(
    tmp_path: Path, name: str, content: bytes, said: str
) -> None:
    path = tmp_path / name
    path.parent.mkdir(parents=True)
    path.write_bytes(C_LIBRARY)
    (tmp_path / "text.py").write_text("x")
    if "312" not in name:
        release.check_site(tmp_path, Facts(), "3.10")
    path.write_bytes(content)
    with pytest.raises(InputError, match=said):
        release.check_site(tmp_path, Facts(), "3.10")
    if content == NEEDS_236:
        release.check_site(tmp_path, Facts(glibc="2.36"), "3.10")


def test_a_refused_release_leaves_nothing(light: Path, bundle_path: Path) -> None:
    with pytest.raises(InputError, match=r"a\.py is for aarch64, tiny is x86_64"):
        build(Facts(arch="x86_64"), bundle_path, light / "out")
    assert list((light / "out").iterdir()) == []


@pytest.mark.parametrize("at", ["lay", "sign", "publish", "pack"])
def test_an_interrupted_build_leaves_nothing(
    light: Path, bundle_path: Path, monkeypatch, at: str
) -> None:
    before = build(Facts(), bundle_path, light / "out")

    def stop(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(release, at, stop)
    with pytest.raises(KeyboardInterrupt):
        build(Facts(), bundle_path, light / "out", "3.12")
    assert sorted(p.name for p in (light / "out").iterdir()) == [before.name, before.name + ".tar"]


def test_wheels_are_those_listed_and_no_others(world: Path) -> None:
    listed = wheels.listed("3.12", "aarch64")
    assert [name.split("-")[0] for name in listed] == ["plain", "fast"]
    assert wheels.missing(listed) == list(listed)
    wheels.fetch(listed, "3.12", "aarch64")
    assert wheels.missing(listed) == []
    kept = world / "cache/spikewire/wheels/plain-1.0-py3-none-any.whl"
    kept.write_bytes(kept.read_bytes()[:-1])  # a disk's mistake is mended
    wheels.fetch(listed, "3.12", "aarch64")
    assert wheels.missing(listed) == []
    kept.unlink()
    make_wheel(world / "index", kept.name, {"plain/__init__.py": b"import os\n"})
    with pytest.raises(InputError, match=r"plain-1\.0.*is not what was listed"):
        wheels.fetch(listed, "3.12", "aarch64")
    shutil.rmtree(world / "index")
    with pytest.raises(InputError, match=r"pip download: .*plain==1\.0; the first build .*network"):
        wheels.fetch(listed, "3.12", "aarch64")
    with pytest.raises(InputError, match=r"no wheels for Python 3\.9 on aarch64 are listed"):
        wheels.listed("3.9", "aarch64")


@pytest.mark.parametrize("arch", ["aarch64", "x86_64"])
@pytest.mark.parametrize("python", ["3.10", "3.11", "3.12", "3.13"])
def test_the_real_list_is_complete(python: str, arch: str) -> None:
    """One wheel of each project that the base install names, and of those which these need."""
    found = [name.split("-")[0] for name in wheels.listed(python, arch)]
    assert sorted(found) == ["lz4", "markdown_it_py", "mcap", "mdurl", "numpy", "pygments",
                             "pyserial", "rich", "zstandard"]
    gpu = {name.split("-")[0] for name in wheels.listed(python, arch, gpu=True)} - set(found)
    if arch == "aarch64" and python in ("3.10", "3.12"):  # those of JetPack 6 and 7
        assert gpu == {"cuda_bindings", "cuda_pathfinder"}


def type_it(*words: object) -> int:
    """mu-flash build, without the other subcommands."""
    parser = argparse.ArgumentParser(prog="mu-flash")
    flash_build.add_parser(parser.add_subparsers())
    args = parser.parse_args(["build", *map(str, words)])
    return guarded("mu-flash", lambda: args.run(args))


@pytest.fixture
def usual(light: Path, bundle_path: Path) -> list[object]:
    return ["--board", "tiny", "--bundle", bundle_path, "--out", light / "out"]


def test_the_command_says_what_it_made(usual, world: Path, capsys) -> None:
    assert type_it(*usual, "--json", "--", "--realtime", "3") == 0
    out, err = capsys.readouterr()
    said = json.loads(out)
    assert Path(said["release"]).is_dir()
    assert said["board"] == "tiny (verified: none)"
    assert said["signed_by"].startswith("SHA256:")
    assert "made the signing key" in err
    assert "--realtime 3" in Path(said["release"], "run.env").read_text()
    assert type_it(*usual) == 0
    out, err = capsys.readouterr()
    assert "verified: none" in out
    assert err == ""


def test_a_dry_run_writes_nothing(usual, world: Path, capsys) -> None:
    before = sorted(world.rglob("*"))
    assert type_it(*usual, "--dry-run", "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert len(said["to_download"]) == said["wheels"] == 2
    assert said["key"].endswith("release_key, to be made")
    assert sorted(world.rglob("*")) == before


@pytest.mark.parametrize(("words", "said"), [
    (["--python", "3.11"], "--python is 3.11, allowed for tiny is 3.10 or 3.12"),
    (["--bundle", "none.mub"], "none.mub: no such bundle"),
    (["--out", "no/where"], "no: no such folder; make it first"),
    (["--key", "none"], "none: no such key; type: ssh-keygen -t ed25519 -f none"),
    (["--source", "replay:my file.npz"], "'replay:my file.npz' cannot stand in run.env"),
    (["--link", 'udp:a"b'], "cannot stand in run.env"),
    (["--link", "udp:$HOME"], "cannot stand in run.env"),
    (["--link", "udp:a\nExecStart=x"], "cannot stand in run.env"),
    (["--", "--no-such-option"], "mu-run: unrecognized arguments: --no-such-option"),
    (["--", "--precision", "int3"], "mu-run: argument --precision: invalid choice: 'int3'"),
])
def test_one_line_for_each_wrong_thing(usual, world, capsys, monkeypatch, words, said) -> None:
    monkeypatch.chdir(world)
    for dry in ([], ["--dry-run"]):
        before, after = (words, []) if words[0] != "--" else ([], words)
        assert type_it(*usual, *before, *dry, *after) == 2
        err = capsys.readouterr().err
        assert said in err
        assert err.count("\n") == 1
    assert not (world / "out").exists()


def test_keys_that_cannot_sign(usual, light: Path, capsys, monkeypatch) -> None:
    key = light / "key"
    signing.make_key(key)
    key.chmod(0o644)
    assert type_it(*usual, "--key", key) == 2
    assert "others may read this key (mode 0644, allowed is 0600); type: chmod 600" in (
        capsys.readouterr().err)
    key.write_text("no key\n")
    key.chmod(0o600)
    assert type_it(*usual, "--key", key) == 2
    assert "mu-flash: ssh-keygen: " in capsys.readouterr().err
    assert list((light / "out").iterdir()) == []
    monkeypatch.setenv("PATH", str(light))
    assert type_it(*usual) == 2
    assert "ssh-keygen is not installed; type: apt install openssh-client" in (
        capsys.readouterr().err)


def test_a_board_that_is_not_supported(world: Path, bundle_path: Path) -> None:
    nano = Facts(id="jetson-nano", supported=False, reason="JetPack 4 has Python 3.6")
    with pytest.raises(InputError, match="jetson-nano is not supported: JetPack 4"):
        build(nano, bundle_path, world / "out")


def test_a_missing_compiler_is_named_only_when_it_is_needed(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(shim.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(shim.shutil, "which", lambda name: None if "aarch64" in name else name)
    with pytest.raises(InputError, match=r"aarch64-linux-gnu-g\+\+ is not installed.*apt install "
                                         r"cmake g\+\+-aarch64-linux-gnu"):
        shim.shim("aarch64")
    kept = shim.kept("aarch64")
    kept.parent.mkdir(parents=True)
    kept.write_bytes(C_LIBRARY)
    assert shim.shim("aarch64") == kept
    monkeypatch.setattr(shim, "PLACES", (tmp_path,))  # installed where nothing could be compiled
    with pytest.raises(InputError, match="not in the installed package; build from a checkout"):
        shim.shim("aarch64")


def test_an_onboard_program_is_one_file(tmp_path: Path) -> None:
    """It runs on any python3 without this package, and is the same in every zlib."""
    (tmp_path / "onboard").mkdir()
    (tmp_path / "__init__.py").write_text('__version__ = "9"\n')
    (tmp_path / "onboard/__init__.py").touch()
    (tmp_path / "onboard/__main__.py").write_text(
        "import sys\nimport spikewire\nprint(spikewire.__version__, sys.argv[1:])\nsys.exit(3)\n")
    (tmp_path / "onboard.pyz").write_bytes(release.zipapp(tmp_path))
    # -S: an editable installation of this package would come before the file
    done = subprocess.run([sys.executable, "-IS", str(tmp_path / "onboard.pyz"), "status"],
                          capture_output=True, text=True)
    assert (done.stdout, done.returncode) == ("9 ['status']\n", 3)
    with zipfile.ZipFile(tmp_path / "onboard.pyz") as packed:
        assert {(e.date_time, e.compress_type) for e in packed.infolist()} == {
            ((1980, 1, 1, 0, 0, 0), zipfile.ZIP_STORED)}


def test_programs_start_from_any_folder_and_through_links(tmp_path: Path) -> None:
    """Files in the working folder that bear the names of modules are not imported."""
    folder = tmp_path / "a release"
    release.copy_package(folder / "site/spikewire")
    release.write_texts(folder / "bin", {
        name: release.WRAPPER.format(module) for name, module in release.COMMANDS.items()})
    release.set_modes(folder)
    (tmp_path / "current").symlink_to(folder)
    for name in ("signal.py", "numpy.py", "spikewire.py"):
        (tmp_path / name).write_text("raise SystemExit('imported from the working folder')")
    done = subprocess.run(
        ["current/bin/mu-run", "no such.mub", "--source", "replay:x.npz"], cwd=tmp_path,
        capture_output=True, text=True,
        env={"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"})
    assert (done.returncode, done.stderr) == (2, "mu-run: no such.mub: no such bundle\n")
    assert not list(folder.rglob("__pycache__"))


BOARDS = {"aarch64": "generic-aarch64", "x86_64": "x86_64-sim"}
MODEL = ROOT / "models" / "reference.mub"
HERE = f"{sys.version_info.major}.{sys.version_info.minor}"


def real(tmp_path: Path, arch: str, python: str) -> Path:
    """A real release; skipped where that would take a download or minutes of compiling."""
    kept = shim.kept(arch)
    if wheels.missing(wheels.listed(python, arch)) or not kept or not kept.is_file():
        pytest.skip(f"no wheels are kept; type: mu-flash build --board {BOARDS[arch]} "
                    f"--python {python} --bundle {MODEL.name} --out out")
    signing.make_key(tmp_path / "key")
    return build(Facts(BOARDS[arch], arch=arch, python=(python,)), MODEL, tmp_path / "out",
                 key=tmp_path / "key")


@pytest.mark.skipif(not shutil.which("readelf"), reason="needs binutils")
@pytest.mark.parametrize("python", ["3.10", "3.12"])
def test_a_real_release_is_for_aarch64(tmp_path: Path, facts: None, python: str) -> None:
    """By readelf: every library is, and none asks for a glibc newer than 2.35."""
    made = real(tmp_path, "aarch64", python)
    libraries = [p for p in (made / "site").rglob("*.so*") if p.is_file()]
    assert len(libraries) > 15
    needing = 0
    for path in libraries:
        said = subprocess.run(["readelf", "-h", "-V", "-W", str(path)], capture_output=True,
                              text=True).stdout
        assert "AArch64" in said
        needing += "GLIBC_2.17 " in said
        assert not any(f"GLIBC_2.{k} " in said for k in range(36, 60))
    assert needing > 10


def test_a_real_release_runs_on_a_bare_python(tmp_path: Path, facts: None) -> None:
    """It decodes what this environment decodes, without any package of this environment."""
    made = real(tmp_path, "x86_64", HERE)
    bundle = read_bundle(MODEL)
    emg = bundle.array("golden/emg.npy").astype(np.float32) * bundle.manifest.golden_lsb_uv
    write_recording(tmp_path / "rec.npz", Recording(emg, bundle.manifest.fs_hz, "golden"))
    words = [str(MODEL), "--source", f"replay:{tmp_path}/rec.npz", "--pace", "max", "--engine",
             "native", "--json"]
    bare = {"PATH": f"{sys.base_prefix}/bin:/usr/bin:/bin"}
    found = [subprocess.run([*start, *words], env=env, capture_output=True, text=True)
             for start, env in (([made / "bin/mu-run"], bare),
                                ([sys.executable, "-m", "spikewire.commands.run"], None))]
    assert [done.returncode for done in found] == [0, 0], found
    here, there = (json.loads(done.stdout) for done in found)
    assert here["spikes"] == there["spikes"] > 100
    assert here["steps"] == there["steps"]
