"""Power cuts at every call that changes the disk: afterwards a board runs what has proven itself.

The truth is what the releases do when they run, not state.json: each carries its behaviour, and
whatever a boot check leaves as `current` must be whole by `verify_folder` and a good one. What had
not been flushed when the power went may be lost, in four ways (`board_world.Machine`).
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from board_world import Machine, PowerCut, Programs, make_release, make_root, stage

from spikewire.onboard import boot, change, states
from spikewire.onboard.place import Place
from spikewire.onboard.releases import verify_folder
from spikewire.onboard.say import Stop

LOSSES = ("nothing", "bytes", "names", "all")


@pytest.fixture(scope="module")
def shelf(tmp_path_factory) -> dict[str, Path]:
    """Releases: A, B and C are good, D dies, S fails its own test."""
    folder = tmp_path_factory.mktemp("shelf")
    how = {"1.A": "good", "2.B": "good", "3.C": "good", "4.D": "dies", "5.S": "self-test"}
    return {version[-1]: make_release(folder, version, one) for version, one in how.items()}


class World:
    """A root folder with A and B deployed, and whatever is staged."""

    def __init__(self, root: Path, patch: pytest.MonkeyPatch) -> None:
        self.place, self.patch = Place(root), patch
        self.programs = Programs(self.place)

    def plug(self, machine: Machine | None = None) -> None:
        self.programs.plug(self.patch, machine)

    def boot(self, cut_at: int | None = None, lose: str = "nothing") -> Machine:
        """Power on: the boot check, then the runtime as systemd would start it."""
        machine = Machine(self.place.root, cut_at, lose)
        self.programs.running = None
        self.plug(machine)
        with suppress(Stop):
            boot.check(self.place)
        self.programs.run(["systemctl", "restart", "mu-runtime.service"])
        return machine


# what is done -> releases deployed before, release staged, work
CHANGES: dict[str, tuple[str, str, Callable[[Place, str], None]]] = {
    "first install": ("", "A", lambda place, name: change.install(place, name, 10)),
    "second install": ("A", "B", lambda place, name: change.install(place, name, 10)),
    "fourth install": ("ABC", "E", lambda place, name: change.install(place, name, 10)),
    "install of one that dies": ("AB", "D", lambda place, name: change.install(place, name, 10)),
    "install that fails its test": ("AB", "S",
                                    lambda place, name: change.install(place, name, 10)),
    "rollback by hand": ("AB", "", lambda place, name: change.rollback(place, False)),
    "rollback by itself": ("ABC", "", lambda place, name: change.rollback(place, True)),
}


def build(root: Path, patch, shelf, before: str, staged: str) -> tuple[World, str]:
    """A board after some deployments, with another release copied to it."""
    make_root(root)
    world = World(root, patch)
    world.plug()
    for letter in before:
        change.install(world.place, stage(world.place, shelf[letter]), 10)
    return world, stage(world.place, shelf[staged]) if staged else ""


def check(world: World, proven_before: bool) -> None:
    """What must hold after a boot check."""
    place = world.place
    here, state = place.named(place.current), states.read(place)
    if here is None:
        assert not proven_before
        assert not state.proven
        return
    verify_folder(place.release(here), here, compiled=True)
    assert world.programs.how(here) == "good"
    if proven_before:
        assert here == state.good
        assert state.trial is None
        for kind, folder in place.installed.items():
            assert {p.name: p.read_bytes() for p in folder.glob("[!.]*")} == {
                p.name: p.read_bytes() for p in (place.release(here) / kind).iterdir()}
    before = place.named(place.previous)
    assert before is None or before in state.proven[:-1]


@pytest.fixture(scope="module")
def boards(tmp_path_factory, shelf) -> dict[str, tuple[Path, str]]:
    """Each change's board before it, made once."""
    folder = tmp_path_factory.mktemp("boards")
    shelf["E"] = make_release(folder, "6.E")
    out = {}
    with pytest.MonkeyPatch.context() as patch:
        for number, (title, (before, staged, _)) in enumerate(CHANGES.items()):
            root = folder / str(number)
            out[title] = root, build(root, patch, shelf, before, staged)[1]
    return out


@pytest.fixture
def root() -> Iterator[Path]:
    """Where the board lies: in memory if there is such a place, since what is lost is scripted."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        yield Path(folder, "root")


def restored(world: World, source: Path) -> None:
    """The board as it was before the change."""
    shutil.rmtree(world.place.root, ignore_errors=True)
    shutil.copytree(source, world.place.root, symlinks=True)
    world.programs = Programs(world.place)
    world.programs.running = world.place.named(world.place.current)


@pytest.mark.parametrize("title", CHANGES)
def test_a_cut_before_every_change_of_the_disk(title, boards, root, monkeypatch) -> None:
    before, _, work = CHANGES[title]
    source, name = boards[title]
    world = World(root, monkeypatch)
    for cut_at in range(10_000):
        restored(world, source)
        machine = Machine(world.place.root, cut_at, LOSSES[cut_at % len(LOSSES)])
        world.plug(machine)
        with suppress(PowerCut, Stop):
            work(world.place, name)
        if not machine.off:
            break
        world.boot()
        check(world, bool(before))
        assert world.boot().calls == 0 or not before  # and so it stays
    assert cut_at > 10  # it did something, and ended by itself at last
    check(world, bool(before))


@pytest.mark.parametrize("lose", ["nothing", "all"])
def test_a_second_cut_during_the_boot_check(lose, boards, root, monkeypatch) -> None:
    before, _, work = CHANGES["second install"]
    source, name = boards["second install"]
    world = World(root, monkeypatch)
    restored(world, source)
    whole = Machine(world.place.root)
    world.plug(whole)
    work(world.place, name)
    seconds = 0
    for cut_at in range(0, whole.calls, 7):
        for again in range(100):
            restored(world, source)
            world.plug(Machine(world.place.root, cut_at, lose))
            with suppress(PowerCut):
                work(world.place, name)
            with suppress(PowerCut):
                world.boot(again, lose)
                break
            seconds += 1
            world.boot()
            check(world, bool(before))
    assert seconds > 20


def test_a_deploy_after_a_cut_goes_through(boards, root, monkeypatch, shelf) -> None:
    for title in ("first install", "second install"):
        source, name = boards[title]
        world = World(root, monkeypatch)
        for cut_at in range(0, 10_000, 5):
            restored(world, source)
            machine = Machine(world.place.root, cut_at, "all")
            world.plug(machine)
            with suppress(PowerCut):
                change.install(world.place, name, 10)
            if not machine.off:
                break
            world.plug()  # no boot in between, as after a killed process
            shutil.rmtree(world.place.staging / name, ignore_errors=True)
            stage(world.place, shelf[name[2]])
            change.install(world.place, name, 10)
            assert world.place.named(world.place.current) == name == world.programs.running
            assert states.read(world.place).good == name


def test_an_ordinary_boot_writes_nothing(boards, root, monkeypatch) -> None:
    world = World(root, monkeypatch)
    restored(world, boards["rollback by hand"][0])
    assert world.boot().calls == 0


def test_each_name_is_flushed_after_its_bytes_and_before_the_next_step(
        boards, root, monkeypatch) -> None:
    """As a trace: write, fsync of the file, rename, fsync of the folder, for every file."""
    source, name = boards["second install"]
    world = World(root, monkeypatch)
    restored(world, source)
    machine = Machine(world.place.root)
    world.plug(machine)
    change.install(world.place, name, 10)
    assert not machine.unwritten & {p.lstat().st_ino for p in world.place.root.rglob("*")}
    trace = [step for step in machine.trace if step[0] != "fchmod"]
    writes = [k for k, (what, path) in enumerate(trace)
              if what == "rename" and "staging" not in path and "releases" not in path]
    assert {Path(trace[k][1]).name for k in writes} >= {"state.json", "current", "previous",
                                                        "onboard.pyz", "mu-runtime.service"}
    for k in writes:
        path = Path(trace[k][1])
        beside = str(path.with_name(f".{path.name}.new"))
        assert trace[k + 1] == ("fsync", str(path.parent))
        if path.name not in ("current", "previous"):
            assert trace[k - 2:k] == [("write", beside), ("fsync", beside)]
    taken = trace.index(("rename", f"opt/spikewire/releases/{name}"))
    flushed = {path for what, path in trace[:taken] if what == "fsync"}
    assert {f"opt/spikewire/staging/{name}/{p.relative_to(world.place.release(name))}"
            for p in world.place.release(name).rglob("*")} <= flushed
    trial = next(k for k, step in enumerate(trace) if step == ("rename", "var/lib/spikewire/"
                                                               "state.json"))
    assert trial < trace.index(("rename", "opt/spikewire/current"))
