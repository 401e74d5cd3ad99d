"""Where the repository lives: the only reader of its address.

pyproject.toml holds it: [project.urls] Repository; [tool.minicoder] branch, jupyterhub.
In GitHub Actions the run's own variables win, so that the site of a fork points to the
fork. MINICODER_JUPYTERHUB names another hub for one build.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"
PLACEHOLDER = "OWNER"  # its owner until the publisher fills it in


@dataclass(frozen=True)
class Address:
    """A repository (https://host/owner/name), its branch, and a JupyterHub or ""."""

    repository: str
    branch: str = "main"
    hub: str = ""

    @property
    def published(self) -> bool:
        """Whether somebody has filled in the owner."""
        return self.repository.split("/")[-2] != PLACEHOLDER

    def file(self, path: str) -> str:
        """The page of one file, or folder, that the repository shows."""
        return f"{self.repository}/blob/{self.branch}/{path}"


def read(path: Path = PYPROJECT, environ: Mapping[str, str] = os.environ) -> Address:
    """The address that holds here; `ValueError` names the field that is no address."""
    told = tomllib.loads(path.read_text(encoding="utf-8"))
    ours = told.get("tool", {}).get("minicoder", {})
    where = f"{path.name}: [project.urls] Repository"
    repository = told["project"].get("urls", {}).get("Repository", "")
    if "GITHUB_SERVER_URL" in environ and "GITHUB_REPOSITORY" in environ:
        where = "GITHUB_SERVER_URL/GITHUB_REPOSITORY"
        repository = (f"{environ['GITHUB_SERVER_URL'].rstrip('/')}/"
                      f"{environ['GITHUB_REPOSITORY']}")
    repository = repository.removesuffix("/").removesuffix(".git")
    if not re.fullmatch(r"https?://[\w.:-]+/[\w.-]+/[\w.-]+", repository):
        raise ValueError(f"{where} is {repository!r}; it must look like "
                         "https://github.com/owner/name.")
    hub = environ.get("MINICODER_JUPYTERHUB", ours.get("jupyterhub", ""))
    if hub and not re.fullmatch(r"https?://[^\s?#]+", hub):
        raise ValueError(f"jupyterhub is {hub!r}; it must be the address of a "
                         "JupyterHub (https://...) or empty.")
    return Address(repository, ours.get("branch", "main"), hub.rstrip("/"))


def reminder(address: Address) -> str:
    """One line for the publisher while the address is a placeholder, else nothing."""
    return "" if address.published else (
        f"Links to the repository go to {address.repository}: a publisher fills in the "
        "owner once, at [project.urls] Repository in pyproject.toml.")
