"""Links of each page to the repository, launch buttons and downloads, for Sphinx.

The addresses come from book/address.py. To the theme's download menu a lesson adds its
source and its handout: no outputs, no solutions.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from docutils.nodes import document
from sphinx.application import Sphinx
from sphinx.config import Config

from book import address
from notebooks import build

ROOT = Path(__file__).parents[1]
LESSONS = {f"notebooks/{path.stem}": path for path in build.sources([])}


def options(at: address.Address) -> dict:
    """The theme's options that follow from the address."""
    launch = {"notebook_interface": "jupyterlab",
              "binderhub_url": "https://mybinder.org", "jupyterhub_url": at.hub}
    if "//github.com/" in at.repository:  # Colab opens no others
        launch["colab_url"] = "https://colab.research.google.com"
    return {"repository_url": at.repository, "repository_branch": at.branch,
            "repository_provider": "gitlab" if "gitlab" in at.repository else "github",
            "path_to_docs": "", "launch_buttons": launch,
            **dict.fromkeys(("use_repository_button", "use_source_button",
                             "use_issues_button"), True)}


def source(page: str) -> str:
    """The file of the repository that says what stands on `page`."""
    if page in LESSONS:
        return f"{page}.py"
    if page.startswith("book/generated/"):
        writers = [path.stem for path in (ROOT / "book/writers").glob("[!_]*.py")
                   if page.removeprefix("book/generated/").startswith(path.stem)]
        return f"book/writers/{max(writers, key=len)}.py"
    return f"{page}.md"


def set_options(app: Sphinx, config: Config) -> None:
    """Give the theme the addresses before it reads its options."""
    config.html_theme_options |= options(address.read())


def mend_buttons(app: Sphinx, page: str, template: str, context: dict,
                 doctree: document | None) -> None:
    """The page's buttons lead to what a person edits, and to all files of a lesson."""
    for group in context.get("header_buttons", []):
        for button in group.get("buttons", ()):
            if button.get("label") == "source-file-button":
                button["url"] = address.read().file(source(page))
        if group.get("label") == "download-buttons" and page in LESSONS:
            name, folder = LESSONS[page].stem, context["pathto"](
                "_sources/notebooks", 1)
            group["buttons"][1:1] = [
                {"type": "link", "url": f"{folder}/{name}.py", "text": ".py",
                 "tooltip": "Download the source", "icon": "fas fa-file-code",
                 "label": "download-py-button"},
                {"type": "link", "url": f"{folder}/handout/{name}.ipynb",
                 "text": "handout", "icon": "fas fa-pen",
                 "tooltip": "Download the lesson without outputs and solutions",
                 "label": "download-handout-button"}]


def add_downloads(app: Sphinx, error: Exception | None) -> None:
    """Put each lesson's source and handout beside its notebook."""
    if error or app.builder.name != "html":
        return
    folder = Path(app.outdir) / "_sources/notebooks"
    for page, path in LESSONS.items():
        if page in app.env.found_docs:
            shutil.copy(path, folder)
            build.handout(path, folder / "handout")
    if line := address.reminder(address.read()):
        print(f"\n{line}")


def setup(app: Sphinx) -> dict:
    """Register with Sphinx; the buttons are mended after the theme has made them."""
    app.connect("config-inited", set_options)
    app.connect("html-page-context", mend_buttons, priority=900)
    app.connect("build-finished", add_downloads)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
