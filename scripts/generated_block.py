"""How is the generated part of a page kept equal to the code? It stands between two comments that name its source."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def with_block(page: str, name: str, block: str) -> str:
    """`page` with `block` between `<!-- generated: name -->` and `<!-- end: name -->`; ValueError without the marks."""
    begin, end = f"<!-- generated: {name} -->\n", f"<!-- end: {name} -->"
    before, found_begin, rest = page.partition(begin)
    _, found_end, after = rest.partition(end)
    if not found_begin or not found_end:
        raise ValueError(f"the page has no {begin.strip()} … {end}")
    return f"{before}{begin}{block.rstrip()}\n{end}{after}"


def run(name: str, blocks: Mapping[Path, str], description: str | None) -> int:
    """The command line of a generator: write the blocks into their pages, or with `--check` only say which are old.

    Exit code 1 if `--check` found an old page.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--check", action="store_true", help="change nothing; exit code 1 if a page is not current")
    check = parser.parse_args().check
    old = []
    for path, block in blocks.items():
        page = path.read_text("utf-8")
        current = with_block(page, name, block)
        if page != current:
            old.append(path)
            if not check:
                path.write_text(current, "utf-8")
    for path in old:
        print(f"{path.relative_to(ROOT)}: {'not current' if check else 'written'}", file=sys.stderr)
    return int(check and bool(old))
