"""Pictures in the pages: their own width, and their dark variants on dark pages.

A picture is as wide as it was drawn, unless the page is narrower. Beside ``history.svg``, the file
``history_dark.svg`` is its variant; a picture that has none knows both themes or is right in both.
"""

import re
from pathlib import Path

# in CSS, an inch has 96 pixels and 72 points
_SIZE = re.compile(r'<svg[^>]*?\s(?:width="([\d.]+)pt"|viewBox="0 0 ([\d.]+) )')
_THUMBNAIL = re.compile(
    r"( *)\.\. image:: /(auto_gallery/images)/thumb/(sphx_glr_\w+)_thumb\.svg\n *:alt:\n"
)


def width(text):
    """Return the width of an SVG file in CSS pixels, None if it doesn't say."""
    match = _SIZE.search(text)
    return match and round(float(match[1] or match[2]) * 96 / 72)


def pictures(app, doctree):
    """Give each picture of a page its width and its dark variant."""
    from docutils import nodes

    if app.env.docname == "auto_gallery/index":  # thumbnails are as wide as their boxes
        return
    for image in list(doctree.findall(nodes.image)):
        path = Path(app.env.relfn2path(image["uri"])[1])
        if path.suffix != ".svg" or not path.is_file():
            continue
        if "width" not in image and (own := width(path.read_text(encoding="utf-8"))):
            image["width"] = f"{own}px"
        if path.with_stem(f"{path.stem}_dark").is_file() and not image["classes"]:
            variant = image.deepcopy()
            variant["uri"] = variant["uri"].removesuffix(".svg") + "_dark.svg"
            image["classes"].append("only-light")
            variant["classes"].append("only-dark")
            image.parent.insert(image.parent.index(image) + 1, variant)
    # what scrolls where a page is narrow: the paragraph of a picture, or a box around it
    for image in list(doctree.findall(nodes.image)):
        if isinstance(image.parent, nodes.paragraph):
            image.parent["classes"].append("picture")
        elif isinstance(image.parent, nodes.section):
            image.replace_self(nodes.container("", image.deepcopy(), classes=["picture"]))


def thumbnails(text):
    """Return the gallery's list with a dark thumbnail beside each light one."""
    return _THUMBNAIL.sub(
        r"\1.. image:: /\2/\3_001.svg\n\1   :alt:\n\1   :class: only-light\n\n"
        r"\1.. image:: /\2/\3_001_dark.svg\n\1   :alt:\n\1   :class: only-dark\n",
        text,
    )


def setup(app):
    """Connect the hooks to Sphinx."""

    def read(app, docname, source):
        if docname == "auto_gallery/index":
            source[0] = thumbnails(source[0])

    app.connect("source-read", read)
    # before Sphinx collects the pictures' files
    app.connect("doctree-read", pictures, priority=400)
