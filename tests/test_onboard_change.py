"""Releases that do not pass: refused or rolled back, each in its own words; state by state.

The programs of a board are scripted (`board_world.Programs`); what is current at the end is
compared with what the releases do, not with what the code remembers.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

import pytest
from board_world import (
    BOARD,
    Machine,
    PowerCut,
    Programs,
    make_release,
    make_root,
    stage,
)
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from spikewire.onboard import __main__ as onboard
from spikewire.onboard import boot, change, disk, facts, preflight, programs, states
from spikewire.onboard.place import Place
from spikewire.onboard.releases import is_whole
from spikewire.onboard.say import Stop


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return make_root(tmp_path / "root")


@pytest.fixture
def board(place: Place, monkeypatch) -> Programs:
    return Programs(place).plug(monkeypatch)


def deploy(place: Place, tmp_path: Path, version: str, behaviour: str = "good", **changes) -> str:
    """Stage and install; the release's name."""
    name = stage(place, make_release(tmp_path, version, behaviour, **changes))
    change.install(place, name, 10)
    return name


# behaviour -> what a person reads
DOES_NOT_LIVE = {
    "no start": "mu-runtime.service did not start: engine: lost the GPU",
    "dies": "the runtime is failed: engine: lost the GPU",
    "restarts": "the runtime died and was restarted after 1 s",
    "no heartbeat": "no heartbeat: steps and frames have stood still for 2 s",
    "silent": "no heartbeat: the runtime wrote no status.json within 10 s",
    "fault": "the runtime is in FAULT: nan",
    "self-test": "golden: 3 windows differ",
}


@pytest.mark.parametrize("behaviour", DOES_NOT_LIVE)
def test_what_does_not_live_is_undone(behaviour, place, board, tmp_path) -> None:
    good = deploy(place, tmp_path, "1.A")
    with pytest.raises(Stop) as stop:
        deploy(place, tmp_path, "2.B", behaviour)
    assert DOES_NOT_LIVE[behaviour] in stop.value.line.evidence
    assert stop.value.line.remedy
    assert board.running == good == place.named(place.current)
    state = states.read(place)
    assert (state.good, state.trial, state.last["ok"]) == (good, None, False)
    assert state.failed[-1].startswith("2.B")
    assert DOES_NOT_LIVE[behaviour] in state.last["reason"]
    assert place.names() == [good]  # what failed takes no room
    unit = (place.installed["units"] / "mu-runtime.service").read_text()
    assert "Description=1.A" in unit


@pytest.mark.parametrize("behaviour", DOES_NOT_LIVE)
def test_a_first_release_that_does_not_live_leaves_nothing(
        behaviour, place, board, tmp_path) -> None:
    with pytest.raises(Stop):
        deploy(place, tmp_path, "1.A", behaviour)
    assert board.running is None
    assert not place.current.is_symlink()
    deploy(place, tmp_path, "2.B")
    assert str(board.running).startswith("2.B")


def other(**rows) -> list:
    return [{**BOARD["jetpack"][0], **rows}]


# step -> how the release or the board differs, what a person reads
UNFIT = {
    "architecture": ({"arch": "riscv64"}, None, "the release is for riscv64"),
    "board": ({"board": {"compatible": ["nvidia,p3737-0000"]}}, None,
              "nvidia,p3768-0000+p3767-0005-super; test-board is nvidia,p3737-0000"),
    "jetpack": ({"board": {"jetpack": other(version="7.2", l4t="39.2.0")}}, None,
                "L4T 36.4.3, the release is for JetPack 7.2 (L4T 39.2.0)"),
    "python": ({"python": "3.8"}, None, "the release is for 3.8"),
    "tensorrt": ({"board": {"engine": "tensorrt"}}, None, "not installed, JetPack brings 10.3"),
    "disk": ({}, lambda patch: patch.setattr(facts, "free_bytes", lambda root: 5 << 20),
             "5 MiB free, needed are 200 MiB"),
    "clock": ({}, lambda patch: patch.setattr(facts, "year", lambda root: 1970),
              "it is the year 1970"),
    "tools": ({}, lambda patch: patch.setattr(shutil, "which", lambda tool: None),
              "systemctl, ssh-keygen missing"),
}


@pytest.mark.parametrize("step", UNFIT)
def test_a_board_that_a_release_does_not_fit_is_left_alone(
        step, place, board, tmp_path, monkeypatch) -> None:
    good = deploy(place, tmp_path, "1.A")
    changes, patch, words = UNFIT[step]
    if patch:
        patch(monkeypatch)
    restarts = len([call for call in board.calls if "restart" in call])
    with pytest.raises(Stop) as stop:
        deploy(place, tmp_path, "2.B", **changes)
    assert stop.value.line.step == step
    assert words in stop.value.line.evidence
    assert stop.value.line.remedy
    assert place.named(place.current) == good == board.running
    assert len([call for call in board.calls if "restart" in call]) == restarts


def test_every_question_of_the_preflight_is_asked_above_but_two() -> None:
    assert set(UNFIT) == set(preflight.QUESTIONS) - {"exoskeleton", "rights"}


def test_on_a_real_board_it_takes_root(monkeypatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    case = preflight.Case(Place(), {}, {})
    assert [line.state for line in preflight.ask(case, "rights")] == ["fail"]


def test_a_runtime_that_says_it_is_not_armed_may_be_changed(place, board, tmp_path) -> None:
    place.status.parent.mkdir(parents=True, exist_ok=True)
    case = preflight.Case(place, {}, {})
    for armed, state in ((False, "ok"), (True, "fail"), ("no", "fail"), (None, "fail")):
        said = {"state": "DEGRADED", "armed": armed}
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(preflight.facts, "runtime", lambda path, said=said: said)
            [line] = preflight.ask(case, "exoskeleton")
        assert line.state == state


@pytest.mark.parametrize("state", ["ACTIVE", "DEGRADED"])
def test_an_armed_exoskeleton_is_not_touched(state, place, board, tmp_path) -> None:
    deploy(place, tmp_path, "1.A")
    good = deploy(place, tmp_path, "2.B")
    board.state, restarts = state, [call for call in board.calls if "restart" in call]
    with pytest.raises(Stop, match="state is " + state):
        deploy(place, tmp_path, "3.C")
    with pytest.raises(Stop, match="state is " + state):
        change.rollback(place, False)
    assert board.running == good
    assert [call for call in board.calls if "restart" in call] == restarts


def test_it_may_have_been_armed_during_the_self_test(place, board, tmp_path, monkeypatch) -> None:
    good = deploy(place, tmp_path, "1.A")
    tested = change.self_test

    def arm(where: Place, name: str):
        board.state = "ACTIVE"
        return tested(where, name)

    monkeypatch.setattr(change, "self_test", arm)
    with pytest.raises(Stop, match="state is ACTIVE"):
        deploy(place, tmp_path, "2.B")
    assert board.running == good == states.read(place).good


def test_a_full_disk_at_any_write_leaves_the_good_one(place, board, tmp_path, monkeypatch) -> None:
    good = deploy(place, tmp_path, "1.A")
    release, k = make_release(tmp_path, "2.B"), 0
    for k in range(100):
        name, left = stage(place, release), [k]

        def full(function, *words, left=left):
            if function is os.write:
                left[0] -= 1
                if left[0] == -1:  # then somebody frees some space
                    raise OSError(28, "No space left on device")
            return None if function is os.fsync else function(*words)

        monkeypatch.setattr(disk, "call", full)
        with suppress(OSError):
            change.install(place, name, 10)
            break
        assert place.named(place.current) == good == board.running == states.read(place).good
    assert k > 5


def test_run_env_and_signers_are_written_once(place, board, tmp_path, capsys) -> None:
    place.signers.unlink()
    name = stage(place, make_release(tmp_path, "1.A"))
    line = 'spikewire namespaces="spikewire-release" ssh-ed25519 AAAAmine'
    change.install(place, name, 10, line)
    assert place.signers.read_text() == line + "\n"
    assert "first deploy: from now on this board takes releases of " in capsys.readouterr().out
    place.run_env.write_text("SPIKEWIRE_RUN=mine\n")
    change.install(place, stage(place, make_release(tmp_path, "2.B")), 10, line + "other")
    said = capsys.readouterr().out
    assert "your key is not in the board's" in said
    assert "- SPIKEWIRE_RUN=mine; + SPIKEWIRE_RUN=" in said
    assert place.signers.read_text() == line + "\n"
    assert place.run_env.read_text() == "SPIKEWIRE_RUN=mine\n"


def test_three_releases_are_kept_and_two_can_change_places(place, board, tmp_path) -> None:
    names = [deploy(place, tmp_path, f"{k}.{'ABCDE'[k]}") for k in range(5)]
    assert place.names() == names[2:]
    assert place.named(place.previous) == names[3]
    change.rollback(place, False)
    assert (board.running, place.named(place.previous)) == (names[3], names[4])
    change.rollback(place, False)
    assert (board.running, place.named(place.previous)) == (names[4], names[3])


def test_a_slow_board_is_no_bad_release(place, board, tmp_path, monkeypatch) -> None:
    # mu-run writes every half second; systemctl takes longer than the longest silence allowed.
    names = [deploy(place, tmp_path, f"{k}.{'AB'[k]}") for k in range(2)]
    run, status = board.run, board.status

    def slow(words, *more, **options):
        board.clock += 2.1 * (words[0] == "systemctl")
        return run(words, *more, **options)

    def seldom(path):
        said = status(path)
        return said | dict.fromkeys(("steps", "frames"), int((board.clock - board.began) * 1.9))

    monkeypatch.setattr(facts, "runtime", seldom)
    change.rollback(place, False)  # a short watch: the second word comes after its end
    assert board.running == names[0]
    monkeypatch.setattr(programs, "run", slow)
    change.rollback(place, False)
    assert (board.running, list(states.read(place).failed)) == (names[1], [])


def test_what_failed_by_itself_is_not_chosen_again(place, board, tmp_path) -> None:
    names = [deploy(place, tmp_path, f"{k}.{'ABC'[k]}") for k in range(3)]
    for left in (1, 0):
        change.rollback(place, True)
        assert board.running == names[left] == states.read(place).good
    with pytest.raises(Stop, match="there is no whole release besides"):
        change.rollback(place, True)
    assert board.running == names[0]


@pytest.mark.parametrize(("ended", "blamed"), [
    ((1, 2), False),  # exited, 2: no port, no amplifier, a wrong word in run.env
    ((1, 1), True), ((2, 2), True), ((3, 6), True)])  # killed by SIGINT; dumped by SIGABRT
def test_a_missing_cable_is_no_bad_release(place, board, tmp_path, ended, blamed) -> None:
    names = [deploy(place, tmp_path, f"{k}.{'AB'[k]}") for k in range(2)]
    board.ended = ended
    change.rollback(place, True)
    assert states.read(place).good == names[0 if blamed else 1]
    assert ("systemctl --no-block start mu-runtime.service" in board.calls) is not blamed


def test_a_damaged_release_is_passed_over_at_boot(place, board, tmp_path) -> None:
    names = [deploy(place, tmp_path, f"{k}.{'ABC'[k]}") for k in range(3)]
    (place.release(names[2]) / "bundle.mub").write_bytes(b"")
    boot.check(place)
    assert place.named(place.current) == names[1]
    assert states.read(place).failed == (names[2],)
    for name in names[:2]:
        (place.release(name) / "run.env").unlink()
    with pytest.raises(Stop, match="no release may run"):
        boot.check(place)
    assert not place.current.is_symlink()


@pytest.mark.parametrize("content", [
    "", "{", "[]", '{"good": "../../x"}', '{"proven": 3}', "[" * 99999, '{"tries": -1}',
    '{"last": 0}', '{"trial": ["a"]}'])
def test_a_state_that_cannot_be_read_is_made_from_the_links(
        content, place, board, tmp_path, capsys) -> None:
    names = [deploy(place, tmp_path, f"{k}.{'AB'[k]}") for k in range(2)]
    place.state.write_text(content)
    boot.check(place)
    assert "cannot be used" in capsys.readouterr().out
    assert states.read(place).proven == tuple(names)
    assert place.named(place.current) == names[1]


def test_a_first_release_from_a_flashed_image_gets_three_boots(place, board, tmp_path) -> None:
    release = make_release(tmp_path, "1.A")
    shutil.copytree(release, place.release(release.name))
    states.write(place, states.State(trial=release.name))
    for tries in (1, 2, 3):
        boot.check(place)
        assert place.named(place.current) == release.name
        assert states.read(place).tries == tries
    with pytest.raises(Stop, match="on trial after 3 boots"):
        boot.check(place)
    states.write(place, states.State(trial=release.name))
    boot.check(place)
    board.run(["systemctl", "restart", "mu-runtime.service"])
    boot.confirm(place, 10)
    assert states.read(place).good == release.name


def said(capsys) -> list[dict]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_the_program_says_lines_and_codes(place, board, tmp_path, capsys) -> None:
    root = ["--root", str(place.root)]
    name = stage(place, make_release(tmp_path, "1.A"))
    assert onboard.main([*root, "preflight", name]) == 0
    assert {line["step"] for line in said(capsys)} == set(preflight.QUESTIONS)
    assert onboard.main([*root, "install", name, "--watch", "1"]) == 0
    assert onboard.main([*root, "install", name]) == 0
    assert said(capsys)[-1]["evidence"] == f"{name} runs already, nothing to do"
    assert onboard.main([*root, "status"]) == 0
    data = said(capsys)[-1]["data"]
    assert (data["current"], data["good"], data["whole"], data["verified"]) == (
        name, name, True, "none")
    assert onboard.main([*root, "rollback", "--by-hand"]) == 1
    assert said(capsys)[-1]["remedy"] == "deploy another one: mu-flash deploy HOST RELEASE"
    assert onboard.main([*root, "install", "9.Z-000000000000"]) == 1
    with disk.locked(place.lock) as held:
        assert held
        assert onboard.main([*root, "rollback", "--by-hand"]) == 1
        assert said(capsys)[-1]["evidence"] == onboard.BUSY
        assert onboard.main([*root, "rollback"]) == 0
        assert onboard.main([*root, "boot-check"]) == 0
    for words in (["install", "../x"], ["fly"], []):
        with pytest.raises(SystemExit) as stop:
            onboard.main([*root, *words])
        assert stop.value.code == 2


class Life(RuleBasedStateMachine):
    """Deploys, rollbacks, boots, damage and power cuts, in any order."""

    def __init__(self) -> None:
        super().__init__()
        memory = Path("/dev/shm")
        self.folder = tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None)
        self.tmp = Path(self.folder.name)
        self.place = make_root(self.tmp / "root")
        self.patch = pytest.MonkeyPatch()
        self.board = Programs(self.place).plug(self.patch)
        self.count, self.was_good, self.booted = 0, False, True

    def teardown(self) -> None:
        self.patch.undo()
        self.folder.cleanup()

    def _do(self, work, cut_at: int | None, lose: str) -> None:
        """Do something, perhaps up to a cut; then the board boots."""
        machine = Machine(self.place.root, cut_at, lose)
        self.board.plug(self.patch, machine)
        with suppress(Stop, PowerCut):
            work()
        self.board.plug(self.patch)
        self.was_good = self.was_good or bool(states.read_or_guess(self.place).proven)
        if machine.off:
            with suppress(Stop):
                boot.check(self.place)
            self.board.run(["systemctl", "restart", "mu-runtime.service"])

    cut = st.none() | st.integers(0, 120)
    loss = st.sampled_from(["nothing", "bytes", "names", "all"])

    @rule(how=st.sampled_from(["good", "good", "dies", "self-test", "fault"]), cut_at=cut,
          lose=loss)
    def deploy(self, how, cut_at, lose) -> None:
        self.count += 1
        name = stage(self.place, make_release(self.tmp, f"{self.count}.{how[0]}", how))
        self._do(lambda: change.install(self.place, name, 10), cut_at, lose)
        if how == "good" and cut_at is None:
            assert self.board.running == name

    @precondition(lambda self: self.was_good)
    @rule(by_itself=st.booleans(), cut_at=cut, lose=loss)
    def rollback(self, by_itself, cut_at, lose) -> None:
        self._do(lambda: change.rollback(self.place, by_itself), cut_at, lose)

    @rule(cut_at=cut, lose=loss)
    def reboot(self, cut_at, lose) -> None:
        self.board.running = None
        self._do(lambda: boot.check(self.place), cut_at, lose)
        self.board.run(["systemctl", "restart", "mu-runtime.service"])

    @invariant()
    def what_runs_is_whole_and_good(self) -> None:
        here = self.place.named(self.place.current)
        if here is None:
            assert not self.was_good
            return
        assert is_whole(self.place.release(here), here)
        proven = states.read(self.place).proven
        assert all(self.board.how(name) == "good" for name in proven)
        if self.was_good:
            assert here in proven
            assert self.board.running == here
        assert len(self.place.names()) <= 5


Life.TestCase.settings = settings(max_examples=15, stateful_step_count=12, deadline=None,
                                  suppress_health_check=list(HealthCheck))
TestLife = Life.TestCase
