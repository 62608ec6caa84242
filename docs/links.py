"""Links and blocks of the repository's Markdown, which is written to be read there too.

A page that includes a file, and a link to a file, name it as it lies in the repository. In the site
they become links between pages, or downloads.
"""

import inspect
import os
import posixpath
import re

import reference_pages

# files outside of docs/ that are pages of the site
PAGES = {
    "README.md": "docs/index.md",
    "README.md#install": "docs/install.md",
    "README.md#more": "docs/guide/index.md",
    "README.ja.md": "docs/japanese.md",
    "CONTRIBUTING.md": "docs/contributing.md",
    "CHANGELOG.md": "docs/changelog.md",
    "RELEASING.md": "docs/releasing.md",
    "ci/cuda_on_cpu/README.md": "docs/notes/cuda-on-cpu.md",
}
_INCLUDE = re.compile(r"^```\{include\} (\S+)\n((?::.*\n)*)```$", flags=re.MULTILINE)
_FENCE = re.compile(r"^```.*?^```$", flags=re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"(?<=\]\()([^()\s]+)(?=\))")

_BACK = re.compile(r'id="([^"]+)">\s*<a class="viewcode-back" href="[^"]*"')


def setup(app, root, repository):
    """Connect the hooks to Sphinx."""

    def write(app):
        reference_pages.write(root / "docs" / "reference" / "api")

    def read(app, docname, source):
        if _is_markdown(app, docname):
            folder = posixpath.dirname(f"docs/{docname}")
            source[0] = included(source[0], folder, root, repository)

    app.connect("builder-inited", write)
    app.connect("source-read", read)
    app.connect("doctree-read", plain_blocks)
    app.connect("missing-reference", as_code)
    app.connect("html-page-context", ways_back)


def _is_markdown(app, docname):
    return os.fspath(app.env.doc2path(docname)).endswith(".md")


def included(text, folder, root, repository):
    """Return a page of `folder` with the files that it includes, and links as in the site."""

    def text_of(match):
        path = posixpath.normpath(posixpath.join(folder, match[1]))
        whole = (root / path).read_text(encoding="utf-8")
        options = dict(re.findall(r"^:([\w-]+): (.*)$", match[2], flags=re.MULTILINE))
        if "start-after" in options:
            whole = whole.split(options["start-after"], 1)[1]
        if "end-before" in options:
            whole = whole.split(options["end-before"], 1)[0]
        return linked(whole, posixpath.dirname(path), folder, root, repository)

    parts = _INCLUDE.split(text)
    own = [linked(part, folder, folder, root, repository) for part in parts[::3]]
    others = [text_of(match) for match in _INCLUDE.finditer(text)]
    return own[0] + "".join(a + b for a, b in zip(others, own[1:], strict=True))


def linked(text, origin, folder, root, repository):
    """Return Markdown of the folder `origin` with links as pages of `folder` have them."""

    def link(match):
        target = match[1].removeprefix(f"{repository}/blob/main/")
        outer = origin if target == match[1] else ""
        path, mark, anchor = target.partition("#")
        if re.match(r"[a-z]+:", target) or not path:
            return match[1]
        path = posixpath.normpath(posixpath.join(outer, path))
        if path + mark + anchor in PAGES:
            path, mark, anchor = PAGES[path + mark + anchor], "", ""
        path = PAGES.get(path, path)
        path = re.sub(r"^docs/gallery/(plot_\w+)\.py$", r"docs/auto_gallery/\1.rst", path)
        if (root / path).is_dir():
            return f"{repository}/tree/main/{path}"
        return posixpath.relpath(path, folder) + mark + anchor

    pieces = []
    end = 0
    for fence in _FENCE.finditer(text):
        pieces += [_LINK.sub(link, text[end : fence.start()]), fence[0]]
        end = fence.end()
    return "".join([*pieces, _LINK.sub(link, text[end:])])


def plain_blocks(app, doctree):
    """Mark blocks of Markdown that name no language as what they are: a console or plain text."""
    from docutils import nodes

    if not _is_markdown(app, app.env.docname):
        return
    for block in doctree.findall(nodes.literal_block):
        if block.get("language", "default") == "default":
            text = block.astext()
            block["language"] = "console" if text.startswith("$ ") else "text"


def as_code(app, env, node, contnode):
    """Show a name that is in single backticks and nothing public, such as a parameter, as code."""
    return contnode if node.get("reftype") == "obj" else None


def _in_module(value):
    """Return the name of a value's source: of a bound method its own, as reference_pages has it."""
    return value.__name__ if inspect.ismethod(value) else value.__qualname__


def ways_back(app, pagename, templatename, context, doctree):
    """Correct the links from a module's source to the reference, where names are `xpnn`'s."""
    if not pagename.startswith("_modules/xpnn"):
        return
    module = pagename.removeprefix("_modules/").replace("/", ".")
    # by the name that it has in the module, the name that the reference has
    shown = {
        f"{value.__module__}.{_in_module(value)}": path
        for page in reference_pages.names().values()
        for path, value in page.items()
        if hasattr(value, "__qualname__")
    }
    objects = app.env.domains["py"].objects

    def link(match):
        name, dot, member = match[1].partition(".")
        path = shown.get(f"{module}.{name}")
        if path not in objects:
            return match[0]
        address = app.builder.get_relative_uri(pagename, objects[path].docname)
        return f'id="{match[1]}">\n<a class="viewcode-back" href="{address}#{path}{dot}{member}"'

    context["body"] = _BACK.sub(link, context["body"])
