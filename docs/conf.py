"""The documentation site: ``make docs`` builds it in ``build/site``, from these pages and the notebooks.

The source folder is the whole checkout: the pages are the files that a forge shows, with the same links.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from docutils import nodes

import fnnexp

if TYPE_CHECKING:
    from sphinx.application import Sphinx

project = "fnnexp"
author = "The fnnexp maintainers"
version = release = fnnexp.__version__
html_title = f"fnnexp {version}"

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "numpydoc"]
root_doc = "docs/index"
include_patterns = ["docs/**.md", "docs/**/*.md", "notebooks/*.ipynb", "CHANGELOG.md", "CONTRIBUTING.md"]
include_patterns += ["CODE_OF_CONDUCT.md", "SECURITY.md", "benchmarks/README.md"]
exclude_patterns = [".*", "build", "demo", "mlruns", "reports"]

# Pages
myst_heading_anchors = 4  # so that links to headings work as on a forge
nb_execution_mode = "off"  # `make notebooks` executes them; the tests check that they still run

# The Python interface
autodoc_typehints = "none"  # numpydoc shows the signature's types
autosummary_generate = False
numpydoc_show_class_members = False
add_module_names = False
default_role = "code"  # of `words` in docstrings

# The look: no request leaves the page, so that it opens from a disk
html_theme = "pydata_sphinx_theme"
html_theme_options = {
    "show_prev_next": True,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "navigation_with_keys": False,
    "header_links_before_dropdown": 4,
    "show_nav_level": 2,
}
html_context = {"default_mode": "auto"}
html_static_path = ["site.css"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_copy_source = False
project_copyright = "the fnnexp maintainers, MIT licence"


def setup(app: Sphinx) -> None:
    """Leave the changelog out of the search, where it would be among the first for most words."""
    app.connect("env-updated", lambda app, env: env.metadata["CHANGELOG"].update(nosearch="true"))
    app.connect("doctree-read", _describe_figures)


def _describe_figures(app: Sphinx, doctree: nodes.document) -> None:
    """Give each figure of a notebook a text for screen readers: the last line of code that plots."""
    for cell in doctree.findall(nodes.container):
        if cell.get("nb_element") == "cell_code":
            lines = next(cell.findall(nodes.literal_block)).astext().splitlines()[::-1]
            code = next((line for line in lines if "plot" in line), lines[0])
            for image in cell.findall(nodes.image):
                image.setdefault("alt", f"figure drawn by {code.strip()}")
