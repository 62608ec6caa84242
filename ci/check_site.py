"""Check a built site: its links, that nothing comes from another host, the gallery's notebooks.

Its search must find Japanese words, which have no spaces between them.

A notebook must have the code of its script, which was run for its page.

python ci/check_site.py docs/_build/html
"""

import ast
import json
import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

# what a browser loads by itself, by the tag; all other addresses are links
LOADED = {
    "audio",
    "embed",
    "iframe",
    "image",
    "img",
    "input",
    "link",
    "object",
    "script",
    "source",
    "video",
}
# links that only tell, of the tag link
TELLING = {"canonical", "author", "license"}


class Page(HTMLParser):
    """The anchors of a page, its links, and what it loads."""

    def __init__(self, text):
        super().__init__()
        self.anchors, self.links, self.loaded = {"", "top"}, [], []
        self.feed(text)
        # addresses in styles of the page's own
        self.loaded += re.findall(r"url\(['\"]?([^'\")]+)", text)

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.anchors |= {found[key] for key in ("id", "name") if found.get(key)}
        addresses = [
            found[key] for key in ("href", "src", "data", "xlink:href", "poster") if found.get(key)
        ]
        addresses += [
            part.split()[0] for part in (found.get("srcset") or "").split(",") if part.strip()
        ]
        if tag in LOADED and found.get("rel") not in TELLING:
            self.loaded += addresses
        else:
            self.links += addresses


def faults(folder):
    """Yield a line for each link that leads nowhere, and for each address on another host."""
    pages = {
        path: Page(path.read_text(encoding="utf-8")) for path in sorted(folder.rglob("*.html"))
    }
    for path, page in pages.items():
        name = path.relative_to(folder)
        for address in page.links + page.loaded:
            parts = urlsplit(address)
            if parts.scheme == "data":
                continue
            if parts.scheme or parts.netloc:
                if address in page.loaded:
                    yield f"{name}: loads {address}"
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not target.is_file():
                yield f"{name}: no file for {address}"
            elif target in pages and unquote(parts.fragment) not in pages[target].anchors:
                yield f"{name}: no anchor for {address}"
    for path in sorted(folder.rglob("*.css")):
        for address in re.findall(
            r"(?:url\(|@import )['\"]?([^'\")]+)", path.read_text(encoding="utf-8")
        ):
            if urlsplit(address).netloc:
                yield f"{path.relative_to(folder)}: loads {address}"


def notebooks(folder):
    """Yield a line for each script of the gallery without a notebook that has the same code."""
    found = {path.name: path for path in folder.glob("_downloads/*/plot_*")}
    for name, path in sorted(found.items()):
        if path.suffix == ".py":
            notebook = found.get(f"{path.stem}.ipynb")
            if notebook is None or _code(notebook) != _code(path):
                yield f"{name}: no notebook with the same code"


def missing(folder):
    """Yield a line for what a site must have: ten notebooks, and Japanese words to search for."""
    count = len([*folder.glob("_downloads/*/plot_*.ipynb")])
    if count < 10:
        yield f"gallery: {count} notebooks of ten"
    index = (folder / "searchindex.js").read_text(encoding="utf-8")
    for word in ("学習", "微分", "重み"):
        if f"{json.dumps(word)}:" not in index:  # as a term of its own
            yield f"search: {word} isn't found"


def _code(path):
    """Return the syntax tree of a script or a notebook, without docstring and comments."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".ipynb":
        cells = json.loads(text)["cells"]
        code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
        return ast.dump(ast.parse("\n".join(code)))
    tree = ast.parse(text)
    del tree.body[0]
    return ast.dump(tree)


if __name__ == "__main__":
    site = Path(sys.argv[1]).resolve()
    found = [*faults(site), *notebooks(site), *missing(site)]
    print("\n".join(found) or "each link leads somewhere, and nothing comes from another host")
    sys.exit(bool(found))
