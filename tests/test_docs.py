"""The documentation: every block is run, every link leads somewhere, every quoted message exists.

Truth: the pages themselves. A block in a shell's language is typed line by line, page by page; what
cannot run in a test, and why, are the tables of docs_shell.py. The site is built where MkDocs is
installed, with every warning an error.
"""

from __future__ import annotations

import argparse
import ast
import importlib.util
import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlparse

import conftest
import containers
import docs_shell
import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
ELSEWHERE = [ROOT / "boards/README.md", ROOT / "models/README.md", ROOT / "CHANGELOG.md",
             ROOT / "tests/standin/README.md"]
FENCE = re.compile(r"^```(.*)$")
# What a page promises to be printed; missing where a package that it needs is.
PRINTED = {
    "docs/quickstart.md": (r"0 fail", r"states .*(ACTIVE|FAULT) \d", r"mean F1 1\.000",
                           r"mu-monitor: .* is shown at"),
    "docs/otb.md": (r"10 samples lost|0 samples lost", r"0\.50863 uV", r"64 channels"),
    "docs/controller.md": (r"ACTIVE \d", r"ACTIVE although stale: \d", r"spikewire\.dbc",
                           r"largest drive \d+ pulse/s"),
    "docs/amplifiers.md": (r"samples sent",),
}
# Around a fragment of C that is no program: what its page says is there.
AROUND_C = {"docs/link/controllers.md": (
    '#include "spikewire_rx.h"\nunsigned f(const uint8_t *bytes, size_t n, uint64_t now_us,'
    " unsigned gain) {{\nunsigned share, wanted;\n{}\nreturn wanted;\n}}\n")}


class Block(NamedTuple):
    """A fenced block of a page."""

    page: str
    line: int
    language: str
    text: str


def blocks(text: str, page: str = "") -> Iterator[Block]:
    """Every fenced block."""
    start, language, lines = 0, "", []
    for number, line in enumerate(text.splitlines(), 1):
        fence = FENCE.match(line)
        if fence and not start:
            start, language, lines = number, fence[1].strip(), []
        elif fence:
            yield Block(page, start, language, "\n".join(lines) + "\n")
            start = 0
        elif start:
            lines.append(line)
    assert not start, f"{page}:{start}: a block has no end"


ALL = [b for p in PAGES for b in blocks(p.read_text(), str(p.relative_to(ROOT)))]


def lines_of(block: Block) -> list[str]:
    """Logical lines of a shell block, without those that only comment."""
    text = block.text.replace("\\\n", " ")
    return [line for line in text.splitlines() if line.strip() and not line.startswith("#")]


def pages_of(*languages: str) -> list[str]:
    return list(dict.fromkeys(b.page for b in ALL if b.language in languages))


# ---- blocks


def test_every_block_says_its_language() -> None:
    known = {"bash", "text", "python", "c", "cpp", "toml", "json"}
    assert [(b.page, b.line, b.language) for b in ALL if b.language not in known] == []
    assert len(ALL) > 60


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


@pytest.fixture(scope="session")
def desk(tmp_path_factory: pytest.TempPathFactory, synthetic: conftest.Synthetic) -> Path:
    """The files that the pages name, small; each page has a copy of them."""
    pytest.importorskip("onnx")
    from spikewire.io.npz import write_recording, write_trains
    from spikewire.signals import Recording

    folder = tmp_path_factory.mktemp("desk")
    for name in ("recording", "monday", "tuesday", "vastus_16"):
        write_recording(folder / f"{name}.npz", synthetic.recording)
    noise = np.random.default_rng(2).normal(0, 80, (6 * 2048, 64)).astype(np.float32)
    write_recording(folder / "vastus.npz", Recording(noise, 2048.0, "vastus"))
    for name in ("trains.npz", "decoded.npz", "model/labels.npz"):
        (folder / name).parent.mkdir(exist_ok=True)
        write_trains(folder / name, synthetic.truth)
    conftest.make_kept_bundle(folder / "monday.mub", synthetic)
    shutil.copy(folder / "monday.mub", folder / "mine.mub")
    shutil.copy(ROOT / "models/reference.mub", folder / "vastus.mub")
    counts = np.random.default_rng(3).integers(-900, 900, (4096, 64)).astype("<i2")
    track = containers.track_xml("VL", 64, "a.sig", gain=256.0, volts=4.8)
    containers.otb4(folder / "monday.otb4", [track], {"a.sig": counts})
    for name in ("models", "docs", "boards", "runtime"):
        (folder / name).symlink_to(ROOT / name)
    return folder


def muedit_file(path: Path) -> None:
    """A recording as MUedit stores it: no unit."""
    io = pytest.importorskip("scipy.io")
    name = np.empty((1, 1), object)
    name[0, 0] = "GR08MM1305"
    emg = np.random.default_rng(4).normal(0, 0.08, (64, 4096))
    io.savemat(path, {"signal": {"data": emg, "fsamp": 2048.0, "gridname": name}})


def swapped(page: str, folder: Path) -> dict[str, str]:
    """What stands in a page -> what is typed here: free ports, and files that are small."""
    port = free_port()
    swaps = {
        "ARM_ID": "7443b2da", "'simulate:4?level=25'": "'replay:models/reference.mub?loop=1'",
        "mu-emulate quattrocento": f"mu-emulate quattrocento --port {port}",
        "quattrocento:127.0.0.1": f"quattrocento:127.0.0.1:{port}",
        "mu-run vastus.mub --source quattrocento": "mu-run vastus.mub@0-59 --source quattrocento",
        "mu-run monday.mub": "mu-run monday.mub@0-15",
    }
    if page == "docs/otb.md":  # its practice stands for the amplifier in all that follows
        swaps["quattrocento:169.254.1.10"] = f"quattrocento:127.0.0.1:{port}"
    if page == "README.md":
        swaps |= {"mu-run vastus.mub": "mu-run mine.mub", "span=17.8:24.05": "span=17.8:18.8",
                  "--arm 7443b2da": "", "--arm ARM_ID": ""}
        if importlib.util.find_spec("scipy"):
            muedit_file(folder / "edited.mat")
        else:
            swaps["mu-convert edited.mat"] = "true mu-convert edited.mat"
    return swaps


def play(page: str, desk: Path, folder: Path, slow: bool) -> None:
    """Run a page's blocks in a copy of the desk."""
    shutil.copytree(desk, folder, symlinks=True, copy_function=os.symlink)
    swaps = swapped(page, folder)
    if slow and "mu-train" in (ROOT / page).read_text():
        for made in ("model/labels.npz", "trains.npz", "decoded.npz", "mine.mub"):
            (folder / made).unlink()
        (folder / "model").rmdir()
        swaps.pop("mu-run vastus.mub", None)  # the page's own bundle
        swaps["mu-adapt mine.mub tuesday.npz"] = "mu-adapt mine.mub recording.npz"
    shell = docs_shell.Shell(folder, swaps, slow)
    if slow:
        shell.real("mu-simulate recording.npz --truth truth.npz --seed 7 --duration 40")
    try:
        for block in (b for b in ALL if b.page == page):
            if block.language == "bash":
                for line in lines_of(block):
                    shell.type(line)
            elif block.language == "python":
                if "cantools" in block.text:
                    pytest.importorskip("cantools")
                shell.python(block.text)
    finally:
        shell.end()
    lacking = docs_shell.MISSING.search(shell.said)
    for words in PRINTED.get(page, ()) if not lacking else ():
        assert re.search(words, shell.said), f"{page} promises {words!r}\n{shell.said}"


@pytest.fixture(scope="module")
def played(
    desk: Path, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[dict[str, Future[None]]]:
    """Pages as they are run, two at once: half of their time is waiting."""
    slow = request.config.getoption("--slow-blocks")
    chosen = [item.callspec.params["page"] for item in request.session.items
              if getattr(item, "originalname", "") == "test_a_pages_blocks_run_in_their_order"]
    with ThreadPoolExecutor(1 if slow else 2) as two:
        yield {page: two.submit(play, page, desk, tmp_path_factory.mktemp("d") / "d", slow)
               for page in chosen}


@pytest.mark.parametrize("page", pages_of("bash", "python"))
def test_a_pages_blocks_run_in_their_order(page: str, played: dict[str, Future[None]]) -> None:
    played[page].result()


@pytest.mark.parametrize("page", pages_of("c", "cpp"))
def test_a_pages_c_is_compiled_and_run(page: str, tmp_path: Path) -> None:
    if not shutil.which("gcc"):
        pytest.skip("gcc is not installed")
    receiver = ROOT / "runtime/receiver"
    for number, block in enumerate(b for b in ALL if b.page == page and b.language in ("c", "cpp")):
        whole, source = "int main(" in block.text, tmp_path / f"{number}.{block.language}"
        source.write_text(block.text if whole else AROUND_C[page].format(block.text))
        compiler = ["gcc", "-std=c99"] if block.language == "c" else ["g++", "-std=c++17"]
        made = [str(receiver / "spikewire_rx.c"), "-o", str(tmp_path / "made")] if whole else \
            ["-fsyntax-only"]
        subprocess.run([*compiler, "-Wall", "-Wextra", "-Werror", f"-I{receiver}", str(source),
                        *made], check=True)
        if whole:
            assert "share 0, drive 0" in subprocess.check_output([tmp_path / "made"], text=True)


def test_data_parses() -> None:
    for block in ALL:
        if block.language in ("json", "toml"):
            {"json": json.loads, "toml": docs_shell.tomllib.loads}[block.language](block.text)


def test_only_what_cannot_run_is_only_read() -> None:
    """Each row of the table is needed by a page, and a line that is only read is truly read."""
    typed = [line for b in ALL if b.language == "bash" for line in lines_of(b)]
    for name in [*docs_shell.ONLY_READ, *docs_shell.FOREIGN]:
        assert any(re.search(rf"(^|\s){name} ", line) for line in typed), f"{name}: not in a page"
    with pytest.raises(SystemExit):
        docs_shell.stand_for("mu-train", "a.npz", "--labels", "t.npz", "--out", "m", "--fast")
    with pytest.raises(AssertionError, match="make has no"):
        docs_shell.stand_for("make", "coffee")
    with pytest.raises(AssertionError, match="coffee"):
        docs_shell.stand_for("pip", "install", ".[coffee]")


def hooks() -> Any:
    """docs/hooks.py, which makes pages."""
    spec = importlib.util.spec_from_file_location("hooks", DOCS / "hooks.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@cache
def made_pages() -> dict[str, str]:
    """Pages that the site makes; empty ones without SciPy, which mu-simulate's options need."""
    if importlib.util.find_spec("scipy"):
        return hooks().pages()
    return dict.fromkeys(["commands.md", "c.md", *hooks().COPIES], "")


def test_every_command_and_option_is_on_the_made_page() -> None:
    pytest.importorskip("scipy")
    page = made_pages()["commands.md"]
    for name, parser in hooks().scripts().items():
        assert f"{{: #{name} }}" in page
        for _, command in hooks().walk(parser):
            for action in command._actions:
                shown = action.help is not argparse.SUPPRESS and action.dest != "help"
                for word in action.option_strings * shown:
                    assert f"`{word}" in page or f", {word}" in page, (command.prog, word)


def test_examples_of_help_are_read_by_their_own_parsers() -> None:
    """`example:` of every --help: its commands, up to prose."""
    pytest.importorskip("scipy")
    read = 0
    for parser in hooks().scripts().values():
        for _, command in hooks().walk(parser):
            for line in re.findall(r"(mu-[a-z]+ [^;\n]*?)(?=,? and in another| {3}|, then|;|\n|$)",
                                   (command.epilog or "").partition("example: ")[2] + "\n"):
                words = docs_shell.shlex.split(re.sub(r"^sudo ", "", line))
                docs_shell.read(words[0], words[1:])
                read += 1
    assert read > 25


def test_every_declaration_of_the_headers_is_on_the_made_page() -> None:
    page = hooks().c_page()
    for path in hooks().HEADERS.values():
        names = set(re.findall(r"\b(spw_\w+)\(", (ROOT / path).read_text()))
        assert len(names) > 5
        assert [name for name in names if f"{name}(" not in page] == []


# ---- links


def slug(heading: str) -> str:
    """The anchor of a heading, as Python-Markdown and GitHub make it of plain words."""
    heading = re.sub(r"\{: #([\w-]+) \}", "", re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading))
    return re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", heading.strip().lower()))


def anchors(text: str) -> set[str]:
    """Anchors of a page's headings."""
    plain = re.sub(r"(?ms)^```.*?^```", "", text)
    return {slug(h) for h in re.findall(r"(?m)^#+ (.*)$", plain)} | \
        set(re.findall(r"\{: #([\w-]+) \}", plain))


def links(text: str) -> list[str]:
    """What a page links to, images too, outside of code."""
    plain = re.sub(r"(?ms)^```.*?^```|`[^`\n]*`", "", text)
    return re.findall(r"\]\(([^)\s]+)\)", plain) + re.findall(r"<(https?://[^>]+)>", plain)


@pytest.mark.parametrize("path", [*PAGES, *ELSEWHERE], ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    for link in links(path.read_text()):
        if link.startswith("http"):
            continue
        place, _, anchor = link.partition("#")
        target = path.parent / place if place else path
        inside = str(target.resolve().relative_to(ROOT)) if ROOT in target.resolve().parents else ""
        made = made_pages().get(inside.removeprefix("docs/"))
        assert made is not None or target.exists(), f"{path.name}: {link}"
        if anchor and made != "":
            assert anchor in anchors(made or target.read_text()), f"{path.name}: {link}"


def test_files_named_in_code_marks_are_there() -> None:
    folders = "docs|boards|models|runtime|tests|benchmarks|python"
    placeholders = {"boards/ID.toml"}
    named = {(path.name, name) for path in [*PAGES, *ELSEWHERE]
             for name in re.findall(rf"`((?:{folders})/[\w./*+-]*)`", path.read_text())}
    assert len(named) > 40
    assert [(page, name) for page, name in sorted(named)
            if name not in placeholders and not list(ROOT.glob(name.rstrip("/")))] == []


# Every address outside that a page names; nothing is fetched in a test.
OUTSIDE = {"127.0.0.1:8765"}


def test_addresses_outside_are_well_formed_and_known() -> None:
    for path in [*PAGES, *ELSEWHERE]:
        for link in links(path.read_text()):
            if link.startswith("http"):
                parts = urlparse(link)
                assert parts.netloc in OUTSIDE, f"{path.name}: {link} is not in OUTSIDE"
                assert parts.scheme == "https" or parts.netloc.startswith("127."), link


# ---- messages


def literals() -> list[str]:
    """Every string of the program; what is filled in is one NUL."""
    found = []
    for path in [*(ROOT / "python").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                found.append("".join(str(v.value) if isinstance(v, ast.Constant) else "\0"
                                     for v in node.values))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return [*found, re.sub(r"\\\n\s*", "", (ROOT / "Makefile").read_text())]


def says(quote: str, literal: str) -> bool:
    """Whether a literal can become the quoted text: its words in order."""
    at = 0
    for part in quote.split("…"):
        at = literal.find(part.strip(), at)
        if at < 0:
            return False
        at += len(part.strip())
    return True


def quotes() -> list[str]:
    """First columns of the troubleshooting tables: what is set as code."""
    rows = re.findall(r"(?m)^\| (.*?) \| ", (DOCS / "troubleshooting.md").read_text())
    return [quote for row in rows for quote in re.findall(r"`([^`]+)`", row)]


def test_every_quoted_message_is_one_of_the_program() -> None:
    from spikewire.link.table import FAULTS

    texts, own = literals(), {*FAULTS.values(), "mu-run: command not found", "mu-train",
                              "mu-calibrate", "make", "missed", "compute", "mu-run: warning:"}
    lost = [q for q in quotes() if q not in own and not any(says(q, text) for text in texts)]
    assert lost == []
    assert len(quotes()) > 50
    assert not says("no frame came … twice", "no frame came; check profile")


# ---- the site


def test_the_site_builds_without_a_warning_and_loads_nothing(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs")
    pytest.importorskip("material")
    pytest.importorskip("mkdocstrings")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", str(ROOT / "mkdocs.yml"), "-d",
         str(tmp_path / "site")], text=True, capture_output=True, cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT / "python")})
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    made = list((tmp_path / "site").rglob("*.html"))
    assert len(made) > 25
    for page in made:
        text = page.read_text()
        loaded = re.findall(r"<(?:script|img|iframe)[^>]*\ssrc=\"?([^\s\">]+)", text) + \
            re.findall(r"<link[^>]*rel=\"?(?:stylesheet|preconnect|icon)[^>]*href=\"?([^\s\">]+)",
                       text)
        assert [u for u in loaded if u.startswith(("http", "//"))] == [], page.name
    for sheet in (tmp_path / "site").rglob("*.css"):
        assert not re.search(r"(?:url\(|@import)\s*[\"']?(?:https?:)?//", sheet.read_text())
    assert (tmp_path / "site/link/spikewire.dbc").read_bytes() == \
        (DOCS / "link/spikewire.dbc").read_bytes()
    assert not (tmp_path / "site/hooks.py").exists()
