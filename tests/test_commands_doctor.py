"""mu-doctor as a person and as mu-flash meet it: table, JSON lines, exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from spikewire.commands import doctor as command
from spikewire.doctor.finding import STATES, Finding


def test_help_shows_an_example(capsys) -> None:
    with pytest.raises(SystemExit) as caught:
        command.main(["--help"])
    assert caught.value.code == 0
    assert "example: mu-doctor vastus.mub --self-test" in capsys.readouterr().out


@pytest.mark.parametrize(("words", "expected"), [
    ("no.mub", "no.mub: no such bundle"),
    ("--self-test", "type mu-doctor X.mub --self-test"),
    ("--link pigeon:", "unknown scheme 'pigeon'"),
    ("--source muscle:", "allowed are quattrocento:"),
    ("--engine abacus", "engine 'abacus' is unknown, allowed are auto, native"),
    ("--seconds -3", "--seconds is -3"),
])
def test_bad_input_is_one_line(words: str, expected: str, capsys) -> None:
    assert command.main(words.split()) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("mu-doctor: ")
    assert len(err.strip().splitlines()) == 1
    assert expected in err


def test_a_line_of_json_per_check(bundle_path: Path, capsys) -> None:
    code = command.main([str(bundle_path), "--self-test", "--seconds", "0.2", "--json",
                         "--link", "null:"])
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert code == int(any(line["state"] == "fail" for line in lines))
    assert {tuple(line)[:4] for line in lines} == {("step", "state", "evidence", "remedy")}
    assert {line["state"] for line in lines} <= set(STATES)
    golden = next(line for line in lines if line["step"] == "golden fp32")
    assert golden["state"] == "ok"
    assert golden["figures"]["difference"] <= golden["figures"]["allowed"]


def test_what_fails_is_the_exit_code(capsys) -> None:
    assert command.main(["--link", "serial:/dev/no-such-port", "--json"]) == 1
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["step"] for line in lines if line["state"] == "fail"] == [
        "serial /dev/no-such-port"]


FINDINGS = [
    Finding("Python", "ok", "3.12.3"), Finding("CAN", "n/a", "no [red]CAN[/red] interface"),
    Finding("clocks", "warn", "6 x CPU 729 to 1344 MHz, " * 6, "sudo jetson_clocks"),
    Finding("serial /dev/ttyTHS1", "fail", "not there", "plug it in"),
]


@pytest.mark.parametrize("columns", ["80", "20", "200"])
def test_the_table_fits_and_keeps_every_word(monkeypatch, capsys, columns: str) -> None:
    """Also words in brackets, which rich would take for colours."""
    monkeypatch.setenv("COLUMNS", columns)
    assert list(command.printed(iter(FINDINGS), as_json=False)) == FINDINGS
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= max(60, min(int(columns), 110))
    for words in ("[red]CAN[/red]", "-> sudo jetson_clocks", "/dev/ttyTHS1", "-> plug it in"):
        assert words in out
    assert out.splitlines()[-1] == "1 fail, 1 warn, 1 ok"


def test_it_runs_where_only_numpy_is(bundle_path: Path) -> None:
    """An interpreter to which nothing but the standard library, numpy and spikewire is there."""
    code = (
        "import sys\n"
        "class Gone:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in ('rich', 'serial', 'mcap', 'onnxruntime', 'tensorrt',\n"
        "                                  'cuda', 'can', 'pylsl'):\n"
        "            raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Gone())\n"
        "from spikewire.commands import doctor\n"
        f"sys.exit(doctor.main([{str(bundle_path)!r}, '--self-test']))\n")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert done.returncode == 1
    assert "fail golden windows: cannot be run: mcap" in done.stdout
    assert "16 channels" in done.stdout
    assert "not installed: pyserial, mcap, rich, onnxruntime" in done.stdout
    assert "pip install pyserial mcap rich" in done.stdout
