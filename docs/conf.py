"""How the site is built: `make docs`. Nothing is fetched from a network."""

import inspect
import logging
import os
import re
import sys
import types
import typing
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))  # this checkout, whichever is installed
os.environ["PYTHONPATH"] = os.pathsep.join(
    filter(None, (sys.path[0], os.environ.get("PYTHONPATH")))
)  # of notebooks, too
os.environ.setdefault("OMP_NUM_THREADS", "1")  # the same pictures everywhere, and two builds side by side

project = "convergent"
author = "The convergent authors"
copyright = "2026, The convergent authors"

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_gallery.gen_gallery",
]
templates_path = ["_templates"]
exclude_patterns = [
    "_build",
    "gallery",
    "generated/gallery/*.ipynb",
    "generated/gallery/*.py",
    "generated/public.rst",
]

highlight_language = "none"
html_theme = "furo"
html_title = "convergent"
html_show_sourcelink = False
html_static_path = ["_static"]
html_css_files = ["site.css"]
copybutton_prompt_text = r">>> |\.\.\. "
copybutton_prompt_is_regexp = True

myst_enable_extensions = ["deflist", "dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_show_tb = True
nb_execution_timeout = 120
nb_merge_streams = True

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
napoleon_numpy_docstring = False
napoleon_use_ivar = True  # attributes of a dataclass are documented once
napoleon_attr_annotations = False  # their types are in its signature


def figure_of(block, block_vars, gallery_conf):
    """The picture of a gallery script: what it calls `figure`, of pyplot or not."""
    from matplotlib import pyplot as plt
    from sphinx_gallery.scrapers import figure_rst

    figure = block_vars["example_globals"].pop("figure", None)
    if figure is None:
        return ""
    path = next(block_vars["image_path_iterator"])
    figure.savefig(path, dpi=110)
    plt.close("all")
    return figure_rst([path], gallery_conf["src_dir"])


sphinx_gallery_conf = {
    "examples_dirs": "gallery",
    "gallery_dirs": "generated/gallery",
    "abort_on_example_error": True,
    "image_scrapers": (figure_of,),
    "capture_repr": (),
    "within_subsection_order": "ExampleTitleSortKey",
    "download_all_examples": False,
    "show_memory": False,
    "show_signature": False,
    "write_computation_times": False,
    "remove_config_comments": True,
    "reset_modules": (),
}
# a checkout may lie in a folder with a space: our links have none of it
logging.getLogger("sphinx.sphinx-gallery").addFilter(lambda record: "with spaces" not in record.getMessage())
suppress_warnings = ["config.cache"]  # the gallery's configuration is not pickled


def as_rst(app, what, name, obj, options, lines):
    """Docstrings are plain text with code between `backticks`: their bars, stars and underscores are themselves."""
    pieces = re.split(r"(^[ ]*>>>(?:.*\n?)(?:[ ]*\S.*\n?)*)", "\n".join(lines), flags=re.MULTILINE)
    for place in range(0, len(pieces), 2):  # between doctests
        parts = re.split(r"(`[^`]+`)", pieces[place])
        parts[::2] = [re.sub(r"[|*\\]|_(?!\w)", r"\\\g<0>", part) for part in parts[::2]]
        for code in range(1, len(parts), 2):
            parts[code] = f"`{parts[code]}`" + (r"\ " if re.match(r"\w", parts[code + 1]) else "")
        pieces[place] = "".join(parts)
    lines[:] = "".join(pieces).split("\n")


def is_alias(app, what, name, obj, skip, options):
    """Names of types are not documented: their docstrings are those of the types."""
    return True if isinstance(obj, types.GenericAlias | types.UnionType | typing._GenericAlias) else None


def public_names(app):
    """The names of `import convergent as cv`, with the first sentence of each and a link to where it is documented."""
    import convergent as cv

    lines = [".. list-table::", "   :widths: 35 65", ""]
    for name in cv.__all__:
        thing = getattr(cv, name)
        if not isinstance(thing, str):
            summary = [(inspect.getdoc(thing) or "").partition("\n")[0]]
            as_rst(app, "", name, thing, None, summary)
            role = "py:class" if isinstance(thing, type) else "py:func"
            lines += [f"   * - :{role}:`cv.{name} <{thing.__module__}.{thing.__qualname__}>`", f"     - {summary[0]}"]
    file = Path(app.srcdir) / "generated" / "public.rst"
    file.parent.mkdir(exist_ok=True)
    file.write_text("\n".join(lines) + "\n")


def setup(app):
    """Called by Sphinx."""
    app.connect("builder-inited", public_names)
    app.connect("autodoc-process-docstring", as_rst, priority=400)  # before napoleon, which writes markup of its own
    app.connect("autodoc-skip-member", is_alias)
