"""The site: what Sphinx reads to build it, with `sh ci/docs.sh`."""

import shutil
import sys
import tempfile
import tomllib
from pathlib import Path

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
sys.path.insert(0, str(DOCS))

import formulas  # noqa: E402
import images  # noqa: E402
import languages  # noqa: E402
import links  # noqa: E402
import reference_pages  # noqa: E402
import search_words  # noqa: E402

from xpnn import __version__  # noqa: E402

_urls = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"].get(
    "urls", {}
)
REPOSITORY = (
    _urls.get("Source") or _urls.get("Repository") or "https://github.com/xpnn/xpnn"
).rstrip("/")

project = "xpnn"
author = "The xpnn developers"
version = release = __version__
html_title = f"xpnn {version}"

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinx_gallery.gen_gallery",
]
autosummary_generate = False
exclude_patterns = ["_build", "gallery", "**.ipynb", "auto_gallery/**.py", "auto_gallery/**.zip"]
nitpicky = True
# the scraper of the gallery is a function
suppress_warnings = ["config.cache"]
# what a docstring sets in single backticks: a link if it names something public, else code
default_role = "py:obj"

myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 4
myst_links_external_new_tab = False

autodoc_inherit_docstrings = False
autodoc_typehints = "none"
autodoc_member_order = "bysource"
python_maximum_signature_line_length = 80
add_module_names = True
toc_object_entries_show_parents = "hide"
numpydoc_show_class_members = False
numpydoc_xref_param_type = False

html_math_renderer = "mathml"
html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_favicon = "_static/favicon.svg"
html_baseurl = _urls.get("Documentation", "")
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False
templates_path = []
html_theme_options = {
    "light_css_variables": {
        "color-brand-primary": "#0063a8",
        "color-brand-content": "#0063a8",
        "font-stack": "system-ui, 'Segoe UI', 'Noto Sans', 'Noto Sans JP', sans-serif",
    },
    "dark_css_variables": {"color-brand-primary": "#5bb4ff", "color-brand-content": "#5bb4ff"},
}
copybutton_exclude = ".linenos, .gp, .go"

# The scripts run outside of the checkout, as a reader's do; only MNIST is there, since nothing may
# be downloaded. The folder is removed when Sphinx exits.
_outside = tempfile.TemporaryDirectory(prefix="gallery-")
_gallery = shutil.copytree(DOCS / "gallery", Path(_outside.name, "gallery"))
(_gallery / "data").symlink_to(ROOT / "data")

sphinx_gallery_conf = {
    "examples_dirs": str(_gallery),
    "gallery_dirs": "auto_gallery",
    "filename_pattern": r"\.py$",
    "abort_on_example_error": True,
    "download_all_examples": False,
    "write_computation_times": False,
    "show_memory": False,
    "min_reported_time": 1e9,
    "plot_gallery": True,
}
try:  # the pictures of the gallery have a scraper of their own
    import gallery_pictures
except ImportError:
    pass
else:
    sphinx_gallery_conf |= gallery_pictures.SETTINGS


def setup(app):
    """Connect what turns the repository's text into pages."""
    links.setup(app, ROOT, REPOSITORY)
    formulas.setup(app)
    images.setup(app)
    languages.setup(app)
    reference_pages.setup(app)
    search_words.setup(app)
    return {"parallel_read_safe": True}
