"""For the API reference: viewcode without imports, and links to names of types."""

from __future__ import annotations

from pathlib import Path

from sphinx.application import Sphinx
from sphinx.domains.python import PythonDomain
from sphinx.pycode import ModuleAnalyzer

ROOT = Path(__file__).parents[1]


def find_source(app: Sphinx, module: str) -> tuple[str, dict] | None:
    """A module's text and the lines of its parts; None is viewcode's own way."""
    path = ROOT.joinpath(*module.split(".")).with_suffix(".py")
    if not path.is_file():
        return None
    analyzer = ModuleAnalyzer.for_file(str(path), module)
    analyzer.find_tags()
    return analyzer.code, analyzer.tags


def setup(app: Sphinx) -> dict:
    """Register with Sphinx; Sphinx 8 lets signatures find `py:type` by itself."""
    if "class" not in (alias := PythonDomain.object_types["type"]).roles:
        alias.roles += ("class",)
    app.setup_extension("sphinx.ext.viewcode")
    app.connect("viewcode-find-source", find_source)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
