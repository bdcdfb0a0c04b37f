"""One HTML file that holds a whole report: opens from disk, needs no network and no server."""

from __future__ import annotations

import base64
import html
import json
from importlib.metadata import distribution
from importlib.resources import files
from pathlib import Path
from string import Template

from convergent.files import atomic
from convergent.page.gather import ReportData

# In this order: each uses what the ones before it define.
_SCRIPTS = ("data.js", "charts.js", "units.js", "main.js")


def write_page(data: ReportData, file: Path) -> None:
    """Write the page, whole or not at all: data, charts (plotly) and tables (DataTables, bundled by itables) in one file."""
    from plotly.offline import get_plotlyjs

    page = files("convergent.page")
    table_script, table_style = (_of_package("itables", f"itables/html/dt_bundle.{kind}") for kind in ("js", "css"))
    chunks = "\n".join(
        f'<script type="text/plain" id="{html.escape(name)}">{text}</script>' for name, text in data.chunks.items()
    )
    text = Template((page / "page.html").read_text()).substitute(
        title=html.escape(data.about["name"]),
        css=(page / "style.css").read_text(),
        table_css=table_style.decode(),
        about=json.dumps(data.about, separators=(",", ":"), allow_nan=False).replace("</", "<\\/"),
        chunks=chunks,
        datatables=base64.b64encode(table_script).decode(),
        plotly=get_plotlyjs(),
        js="\n".join((page / name).read_text() for name in _SCRIPTS),
    )
    with atomic(file) as partial:
        partial.write_text(text)


def _of_package(package: str, path: str) -> bytes:
    """A file of an installed package, without importing it."""
    return Path(str(distribution(package).locate_file(path))).read_bytes()
