"""The repository's address stands in one place, and every page's links follow it."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from book import address, extension

ROOT = Path(__file__).parents[2]
RUN = {"GITHUB_SERVER_URL": "https://github.com", "GITHUB_REPOSITORY": "some/fork",
       "MINICODER_JUPYTERHUB": "https://hub.example.org/"}
SAID = '[project.urls]\nRepository = "{}"\n[project]\n[tool.minicoder]\n{}\n'


@pytest.fixture
def project(tmp_path):
    """Write a pyproject.toml with this address."""
    def write(repository, more=""):
        path = tmp_path / "pyproject.toml"
        path.write_text(SAID.format(repository, more), encoding="utf-8")
        return path
    return write


def test_pyproject_says_it_and_a_run_on_github_wins(project):
    path = project("https://github.com/me/minicoder.git", 'branch = "next"')
    at = address.read(path, {})
    assert at == address.Address("https://github.com/me/minicoder", "next")
    assert at.file("a/b.py") == "https://github.com/me/minicoder/blob/next/a/b.py"
    assert address.read(path, RUN) == address.Address(
        "https://github.com/some/fork", "next", "https://hub.example.org")
    half = {"GITHUB_REPOSITORY": "some/fork"}
    assert address.read(path, half).repository == "https://github.com/me/minicoder"


def test_a_hub_is_named_by_pyproject_and_unset_by_the_environment(project):
    path = project("https://github.com/me/x", 'jupyterhub = "https://hub.example.org"')
    assert address.read(path, {}).hub == "https://hub.example.org"
    assert address.read(path, {"MINICODER_JUPYTERHUB": ""}).hub == ""


@pytest.mark.parametrize("wrong", ["", "github.com/me/x", "https://github.com/me",
                                   "https://github.com/me/x/tree/main", "file:///a/b"])
def test_what_is_no_address_is_refused_by_name(project, wrong):
    with pytest.raises(ValueError, match="Repository is .*must look like"):
        address.read(project(wrong), {})
    with pytest.raises(ValueError, match="jupyterhub is 'hub.example.org'"):
        address.read(project("https://github.com/me/x"),
                     {"MINICODER_JUPYTERHUB": "hub.example.org"})


def test_a_placeholder_is_told_in_one_line():
    line = address.reminder(address.Address("https://github.com/OWNER/minicoder"))
    assert "pyproject.toml" in line and "\n" not in line
    assert address.reminder(address.Address("https://github.com/me/minicoder")) == ""


def test_no_other_file_spells_the_address():
    if not shutil.which("git"):
        pytest.skip("no git (Debian, Ubuntu: apt install git)")
    at = address.read(environ={})
    owned = "/".join(at.repository.split("/")[-2:])
    listed = subprocess.run(
        ["git", "grep", "-lIF", "--untracked", "-e", owned, "-e", "OWNER" + "/REPO"],
        cwd=ROOT, capture_output=True, text=True)
    if listed.returncode not in (0, 1):
        pytest.skip("no git repository: clone it instead of copying its files")
    # notebooks are built, and their set-up cell is stamped then; this file tests
    assert {name for name in listed.stdout.split() if not name.endswith(".ipynb")} - {
        Path(__file__).relative_to(ROOT).as_posix()} == {"pyproject.toml"}


def test_only_github_is_opened_by_colab():
    on = extension.options(address.Address("https://gitlab.com/me/minicoder"))
    assert "colab_url" not in on["launch_buttons"]
    assert on["repository_provider"] == "gitlab"


@pytest.mark.parametrize(("page", "file"), [
    ("notebooks/04_mla", "notebooks/04_mla.py"), ("book/index", "book/index.md"),
    ("book/generated/map", "book/writers/map.py")])
def test_a_page_leads_to_what_a_person_edits(page, file):
    assert extension.source(page) == file and (ROOT / file).exists()


def test_the_buttons_of_a_built_lesson(tmp_path):
    pytest.importorskip("jupyter_book", reason="`make book` sets jupyter-book up")
    toc = tmp_path / "_toc.yml"
    toc.write_text("format: jb-book\nroot: notebooks/04_mla\n", encoding="utf-8")
    built = subprocess.run(
        [sys.executable, Path(sys.executable).with_name("jupyter-book"), "build", ".",
         "-q", "--config", "book/_config.yml", "--toc", toc, "--path-output", tmp_path],
        cwd=ROOT, env=os.environ | RUN, capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    html = tmp_path / "_build/html/notebooks/04_mla.html"
    links = set(re.findall(r'href="([^"]+)"', html.read_text(encoding="utf-8")))
    assert links >= {
        "https://colab.research.google.com/github/some/fork/blob/main/"
        "notebooks/04_mla.ipynb",
        "https://mybinder.org/v2/gh/some/fork/main?urlpath=lab/tree/"
        "notebooks/04_mla.ipynb",
        "https://hub.example.org/hub/user-redirect/git-pull?"
        "repo=https%3A//github.com/some/fork&urlpath=lab/tree/fork/"
        "notebooks/04_mla.ipynb&branch=main",
        "https://github.com/some/fork/blob/main/notebooks/04_mla.py"}
    downloads = [link for link in links if "_sources/" in link]
    assert len(downloads) == 3 and {Path(link).suffix for link in downloads} == {
        ".py", ".ipynb"}
    assert all((html.parent / link).is_file() for link in downloads)
