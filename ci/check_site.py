"""Check a built site: its links, that nothing comes from another host, the gallery's notebooks.

What may be wider than a phone must be in a box that scrolls: tables, blocks of code and large
pictures. That each box does scroll is in `docs/_static/site.css` and in the theme.

Its search must find each page with a Japanese word: there are no spaces between them.

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
# addresses in a style sheet
_STYLE = re.compile(r"(?:url\(|@import )\s*['\"]?([^'\")\s]+)")
_STYLE_COMMENT = re.compile(r"/\*.*?\*/", flags=re.DOTALL)
# addresses on another host that a script loads: arguments of what loads, and a tag's attributes. A
# link is loaded only when a reader follows it: an href counts if it is a style sheet's
_SCRIPT = re.compile(
    r"""(?:\b(?:fetch|import|importScripts|Worker|EventSource|WebSocket|sendBeacon)\s*\(?\s*
    |\bfrom\s*|\.open\([^,()]*,\s*|\bsrc\s*=\s*|\burl\()
    \\?['"`]?((?:https?:|wss?:)?//[\w.-]+\.\w[^'"`\s)\\]*)
    |\bhref\s*=\s*\\?['"`]((?:https?:)?//[^'"`\s]+\.css\b)""",
    flags=re.VERBOSE,
)
# comments, not the // of an address
_SCRIPT_COMMENT = re.compile(r"/\*.*?\*/|(?<![:'\"`\\/(])//[^\n]*", flags=re.DOTALL)

# what may be wider than a phone, and the boxes that scroll
PHONE = 400
BOXES = {"highlight", "output_subarea", "picture", "scroll", "table-wrapper"}
# tables of lists, whose words break
LISTS = {"genindextable", "domainindex-table"}
_PIXELS = re.compile(r"(?<![\w-])(?:min-)?width:\s*(\d+)px")
# elements without an end
_VOID = {"area", "br", "col", "hr", "img", "input", "link", "meta", "source", "wbr"}


def in_style(text):
    """Return the addresses in a style sheet, all of which are loaded."""
    return _STYLE.findall(_STYLE_COMMENT.sub("", text))


def in_script(text):
    """Return the addresses on other hosts that a script loads."""
    found = _SCRIPT.findall(_SCRIPT_COMMENT.sub("", text))
    return [one or other for one, other in found]


class Page(HTMLParser):
    """The anchors of a page, its links, what it loads, and what may make it wider than a phone."""

    def __init__(self, text):
        super().__init__()
        self.anchors, self.links, self.loaded, self.wide = {"", "top"}, [], [], []
        self.open = []  # the elements around, each with its classes
        self.feed(text)

    def handle_data(self, data):
        tag = self.open[-1][0] if self.open else None
        if tag == "style":
            self.loaded += in_style(data)
        if tag == "script":
            self.loaded += in_script(data)

    def handle_endtag(self, tag):
        while self.open and any(name == tag for name, _ in self.open):
            if self.open.pop()[0] == tag:
                break

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in _VOID:
            self.handle_endtag(tag)

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        classes = set((found.get("class") or "").split())
        pixels = _PIXELS.search(found.get("style") or "")
        wide = tag in ("table", "pre") or (pixels and int(pixels[1]) > PHONE)
        if wide and not classes & LISTS and not any(own & BOXES for _, own in self.open):
            self.wide.append(f"<{tag}>")
        if tag not in _VOID:
            self.open.append((tag, classes))
        self.loaded += in_style(found.get("style") or "")
        self.anchors |= {found[key] for key in ("id", "name") if found.get(key)}
        addresses = [
            found[key] for key in ("href", "src", "data", "xlink:href", "poster") if found.get(key)
        ]
        addresses += [
            part.split()[0] for part in (found.get("srcset") or "").split(",") if part.strip()
        ]
        if (tag in LOADED and found.get("rel") not in TELLING) or (
            # in a picture, what draws refers to what it draws: fill, shape, filter
            tag != "a" and any(name == "svg" for name, _ in self.open)
        ):
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
        for what in page.wide:
            yield f"{name}: no box that scrolls around {what}"
    read = {".css": in_style, ".js": in_script, ".svg": lambda text: Page(text).loaded}
    for path in sorted(folder.rglob("*")):
        # the index of the search holds the pages' words
        if path.suffix in read and path.name != "searchindex.js":
            for address in read[path.suffix](path.read_text(encoding="utf-8")):
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
    """Yield a line for what a site must have: ten notebooks, and a search for Japanese words."""
    count = len([*folder.glob("_downloads/*/plot_*.ipynb")])
    if count < 10:
        yield f"gallery: {count} notebooks of ten"
    index = (folder / "searchindex.js").read_text(encoding="utf-8")
    index = json.loads(index[index.index("(") + 1 : index.rindex(")")])
    pages = {n: (folder / f"{n}.html").read_text(encoding="utf-8") for n in index["docnames"]}
    texts = {n: _text(page) for n, page in pages.items() if re.search('<html[^>]* lang="ja"', page)}
    if not texts:
        yield "search: no page says that it is in Japanese"
    for word in ("グラフ", "損失関数", "学習率", "表", "学習", "微分"):
        # as docs/search_words.py splits it; a page must have all parts
        parts = [word[i : i + 2] for i in range(len(word) - 1)] or [word]
        found = set.intersection(*(_pages(index, part) for part in parts))
        for name, text in texts.items():
            if word in text and name not in found:
                yield f"search: {word} doesn't find {name}"


def _text(page):
    """Return the text of what a page itself says, without what stands around it."""
    return re.sub(r"<[^>]*>|\n", "", re.search(r"<article.*?</article>", page, flags=re.DOTALL)[0])


def _pages(index, term):
    """Return the names of the pages that a search for a term finds."""
    found = [index[terms].get(term, []) for terms in ("terms", "titleterms")]
    numbers = {n for own in found for n in (own if isinstance(own, list) else [own])}
    return {index["docnames"][number] for number in numbers}


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
    print(
        "\n".join(found)
        or "links lead somewhere, nothing comes from another host, what is wide scrolls"
    )
    sys.exit(bool(found))
