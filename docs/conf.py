"""How the site is built: `make docs`."""

project = "convergent"
author = "The convergent authors"
copyright = "2026, The convergent authors"
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "sphinx.ext.napoleon", "sphinx_copybutton"]
exclude_patterns = ["_build", "**/README.rst"]
html_theme = "furo"
html_title = "convergent"
html_show_sourcelink = False
myst_enable_extensions = ["deflist", "dollarmath"]
myst_heading_anchors = 3
