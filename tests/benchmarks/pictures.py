"""Takes the pictures of the report page and of the terminal dashboard: python tests/benchmarks/pictures.py.

Needs Chromium, tmux and the finished demo; what is missing is said, and its picture is left as it was.
"""

import argparse
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

from playwright.sync_api import sync_playwright
from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

PROJECT = Path(__file__).parents[2]
DOCS = PROJECT / "docs" / "images"


def report(browser, file, layer="fc1"):
    page = browser.new_page(viewport={"width": 1240, "height": 900})
    page.goto(file.as_uri())
    page.wait_for_selector("body[data-ready=yes]")
    page.add_style_tag(content="nav {position: static !important} aside {max-height: 46rem !important}")
    page.wait_for_timeout(500)
    page.screenshot(path=DOCS / "report.png", clip={"x": 0, "y": 0, "width": 1240, "height": 860})
    page.locator("#units .tabs button", has_text=layer).click()
    page.locator("#units").scroll_into_view_if_needed()
    page.locator("#unit-table tbody tr").nth(1).click()
    page.wait_for_timeout(500)
    page.locator("#units").screenshot(path=DOCS / "report-units.png")


def dashboard(browser, folder):
    name = "convergent-leet"
    command = [str(Path(sys.executable).parent / "wandb"), "leet", str(folder)]
    subprocess.run(["tmux", "new-session", "-d", "-s", name, "-x", "165", "-y", "42", *command], check=True)
    try:
        time.sleep(15)
        captured = subprocess.run(
            ["tmux", "capture-pane", "-e", "-p", "-t", name], capture_output=True, text=True, check=True
        )
    finally:
        subprocess.run(["tmux", "kill-session", "-t", name], check=False)
    console = Console(record=True, width=165, file=Path("/dev/null").open("w"))  # noqa: SIM115
    console.print(Text.from_ansi(captured.stdout.replace(str(PROJECT) + "/", "")))
    # fonts that have no lines and dots of the right width stay on the grid
    html = console.export_html(inline_styles=True, theme=MONOKAI)
    html = re.sub("[\u2190-\u28ff]", r"<i>\g<0></i>", html)
    style = "pre {line-height: 1.2 !important; font-size: 12.5px !important}"
    style += "pre {padding: 12px; margin: 0; display: inline-block}"
    style += "i {display: inline-block; width: 1ch; height: 1.2em; overflow: hidden; font-style: normal}"
    style += "i {vertical-align: bottom}"
    page = browser.new_page(viewport={"width": 1400, "height": 760})
    page.set_content(f"{html}<style>{style}</style>")
    page.locator("pre").screenshot(path=DOCS / "leet.png")


def main():
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--name", default="digits-convnet", help="of the experiment")
    name = options.parse_args().name
    with sync_playwright() as playwright:
        chromium = shutil.which("chromium") or shutil.which("chromium-browser")
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        report(browser, PROJECT / "outputs" / "report" / name / "report.html")
        if shutil.which("tmux"):
            dashboard(browser, PROJECT / "outputs" / "wandb")
        else:
            print("no tmux here: docs/images/leet.png is left as it was")
        browser.close()


if __name__ == "__main__":
    main()
