"""One HTML file that holds a whole report: opens from disk, needs no network and no server."""

import base64
import gzip
import html
import json
from importlib.metadata import distribution
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from convergent.report.gather import ReportData
from convergent.report.nouns import IMAGES, in_words
from convergent.storage.files import atomic

# In this order: each uses what the ones before it define.
_SCRIPTS = ("data.js", "charts.js", "units.js", "merging.js", "main.js")


def write_page(data: ReportData, file: Path) -> None:
    """Write the page, whole or not at all: data, charts (plotly) and tables (DataTables, bundled by itables) in one file."""
    from plotly.offline import get_plotlyjs

    page = files("convergent.report")
    table_script, table_style = (_of_package("itables", f"itables/html/dt_bundle.{kind}") for kind in ("js", "css"))
    libraries = {"plotly": get_plotlyjs().encode(), "datatables": table_script}
    # smallest first: the page is read in this order
    read_later = [
        *(_inert("application/json", name, _json(part)) for name, part in data.parts.items()),
        *(_inert("text/plain", name, _compressed(script)) for name, script in libraries.items()),
        *(_inert("text/plain", name, text) for name, text in data.chunks.items()),
    ]
    noun = data.about.get("noun", IMAGES)
    frame = (page / "page.html").read_text().replace("Images <select", f"{noun.capitalize()} <select")
    text = Template(in_words(frame, noun)).substitute(
        title=html.escape(data.about["name"]),
        css=(page / "style.css").read_text(),
        table_css=table_style.decode(),
        about=in_words(_json(data.about), noun),
        js=in_words("\n".join((page / name).read_text() for name in _SCRIPTS), noun),
        read_later="\n".join(read_later),
    )
    with atomic(file) as partial:
        partial.write_text(text)


def _inert(kind: str, name: str, text: str) -> str:
    """An element that the browser keeps but does not look into."""
    return f'<script type="{kind}" id="{html.escape(name)}">{text}</script>'


def _json(value: Any) -> str:
    """JSON in which the browser finds no element's end, comment or script, whatever names hold."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def _compressed(script: bytes) -> str:
    return base64.b64encode(gzip.compress(script, mtime=0)).decode()


def _of_package(package: str, path: str) -> bytes:
    """A file of an installed package, without importing it."""
    return Path(str(distribution(package).locate_file(path))).read_bytes()
