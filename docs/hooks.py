"""Pages that are made when the site is built, from what they describe, so that none can go stale.

Commands from their own `--help`, the C interface from the comments of its headers, and the pages
that lie beside what they are about (boards, models, the stand-in board). MkDocs calls `on_files`.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent
# page -> what it is made from
COPIES = {
    "boards.md": "boards/README.md",
    "models.md": "models/README.md",
    "standin.md": "tests/standin/README.md",
}
HEADERS = {
    "The decoder: `spikewire.h`": "runtime/include/spikewire.h",
    "The receiver: `spikewire_rx.h`": "runtime/receiver/spikewire_rx.h",
}
C_INTRODUCTION = """# C and C++
Made from the headers' own comments.

* **The decoder** is a library: `cmake -S . -B build && cmake --build build && cmake --install build
  --prefix ~/.local`, then `find_package(spikewire)`. A whole program: `runtime/examples/decode.c`.
* **The receiver** is three files to copy from `runtime/receiver/`; with CMake it is
  `spikewire::spikewire_rx`. How to use it: [I have my own controller](controller.md),
  [For who builds a controller](link/controllers.md).
"""
LISTED = re.compile(r"(\* |\d+\. )")
COMMENT = re.compile(r"/\*\s?(.*?)\s*\*/", re.DOTALL)
# What only a compiler reads.
PLUMBING = re.compile(
    r'#(if|ifdef|ifndef|else|endif|include)\b.*|#define (SPIKEWIRE_\w+|SPW_API.*)|extern "C" \{|\}')


def pages() -> dict[str, str]:
    """Every made page: its place in docs/, and its text."""
    copies = {page: (ROOT / source).read_text() for page, source in COPIES.items()}
    return {"commands.md": commands_page(), "c.md": c_page(), **copies}


def on_files(files: Any, config: Any) -> Any:
    """Add the made pages to the site."""
    from mkdocs.structure.files import File

    sys.path.insert(0, str(ROOT / "python"))
    for place, text in pages().items():
        files.append(File.generated(config, place, content=text))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """A list may follow its sentence without an empty line, as on GitHub."""
    out, code = [], False
    for line in markdown.splitlines():
        code ^= line.startswith("```")
        begins = bool(LISTED.match(line)) and not code
        if begins and out and out[-1] and not LISTED.match(out[-1]) and out[-1][0] not in " #":
            out.append("")
        out.append(line)
    return "\n".join(out) + "\n"


def scripts() -> dict[str, argparse.ArgumentParser]:
    """Every command of the package, with its options."""
    table = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    return {name: import_module(target.partition(":")[0]).parser()
            for name, target in table.items()}


def commands_page() -> str:
    """All commands, each as it describes itself."""
    parts = ["# Commands\nMade from each command's own `--help`. Exit codes: 0 done, 1 done with a "
             "bad result, 2 input that cannot be\nused: one line says what came, what was allowed, "
             "what to type next.\n"]
    for top in scripts().values():
        parts += [section(level, parser) for level, parser in walk(top)]
    return "\n".join(parts)


def walk(parser: argparse.ArgumentParser, level: int = 2, words: str = "",
         ) -> Iterator[tuple[int, argparse.ArgumentParser]]:
    """A command and its subcommands, from the top; `words` describe one that does not itself."""
    parser.description = parser.description or words
    yield level, parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            helps = {a.dest: a.help or "" for a in action._choices_actions}
            for name, child in action.choices.items():
                yield from walk(child, level + 1, helps.get(name, ""))


def section(level: int, parser: argparse.ArgumentParser) -> str:
    """One command: what it does, how it is called, its options."""
    said = f"{parser.description[:1].upper()}{parser.description[1:]}".rstrip(".") + "."
    usage = " ".join(parser.format_usage().split()).removeprefix("usage: ")
    lines = [f"{'#' * level} {parser.prog} {{: #{parser.prog.replace(' ', '-')} }}", escaped(said),
             "", "```text", *folded(usage), "```"]
    rows = [row(a) for a in parser._actions
            if a.help is not argparse.SUPPRESS and not isinstance(
                a, (argparse._SubParsersAction, argparse._HelpAction))]
    if rows:
        lines += ["", "| option | meaning |", "|---|---|", *rows]
    if parser.epilog:
        lines += ["", "```text", *parser.epilog.splitlines(), "```"]
    return "\n".join(lines) + "\n"


def folded(usage: str, room: int = 96) -> Iterator[str]:
    """A usage line, cut between options."""
    line = ""
    for word in re.findall(r"\[[^][]*(?:\[[^][]*\][^][]*)*\]|\S+", usage):
        if line and len(line) + len(word) + 1 > room:
            yield line
            line = "   "
        line = f"{line} {word}" if line else word
    yield line


def row(action: argparse.Action) -> str:
    """One option as a row of a table."""
    choices = "{" + ",".join(map(str, action.choices)) + "}" if action.choices else ""
    value = action.metavar or choices or action.dest.upper()
    if not action.option_strings:
        shown = action.metavar or choices or action.dest
    elif action.nargs == 0:
        shown = ", ".join(action.option_strings)
    else:
        shown = f"{', '.join(action.option_strings)} {value}"
    words = (action.help or "") % {"default": action.default, "prog": ""}
    need = "required" if action.option_strings and action.required else ""
    return f"| `{shown}` | {'; '.join(part for part in (need, escaped(words)) if part)} |"


def escaped(words: str) -> str:
    """Words of a terminal as Markdown: no markup in them, but links to our pages."""
    plain = re.sub(r"([*<>|\[\]`])", r"\\\1", words)
    return re.sub(r"\bdocs/(\w+)\.md\b", r"[\1](\1.md)", plain)


def c_page() -> str:
    """The C headers: their comments as text, their declarations as code."""
    parts = [C_INTRODUCTION]
    for title, path in HEADERS.items():
        parts += [f"## {title}", *chunks((ROOT / path).read_text())]
    return "\n".join(parts)


def chunks(header: str) -> Iterator[str]:
    """A header's paragraphs: a comment that stands in front becomes text, the rest code."""
    for part in re.split(r"\n\n(?=\S)", header):  # not inside a struct
        code = "\n".join(line for line in part.splitlines() if not PLUMBING.fullmatch(line))
        code = code.replace("SPW_API ", "").strip()
        found = COMMENT.match(code)
        if found:
            yield comment_text(found[1])
            code = code[found.end():].strip()
        if code:
            yield f"```c\n{code}\n```\n"


def comment_text(words: str) -> str:
    """A block comment without its stars; names are code, and so is what is indented."""
    made: list[str] = []
    for part in re.sub(r"(?m)^ \* ?", "", f" * {words}").split("\n\n"):
        if part.startswith("    "):
            made.append("```c\n" + re.sub(r"(?m)^ {4}", "", part) + "\n```")
        else:
            named = re.sub(r"`?\b((?:spw|SPW|MU)_\w+|python/[\w/.]+\.py|\w+\.h)`?", r"`\1`", part)
            made.append(re.sub(r"([*<>|\[\]])", r"\\\1", named))
    return "\n\n".join(made) + "\n"
