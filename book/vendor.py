"""Fetch the browser files that the site serves itself, so that it asks no other host.

They come from the npm registry (`npm pack`, one archive each, nothing is installed) and
are checked against the digests below. Licences: MathJax Apache-2.0, require.js and
reveal.js MIT, html-manager BSD-3-Clause; a copy lies beside each.
"""

from __future__ import annotations

import base64
import hashlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

TARGET = Path(__file__).parent / "_static" / "vendor"
# package: (digest of its archive, {files in it: folder below TARGET})
PACKAGES = {
    "mathjax@3.2.2": (
        "sha512-Bt+SSVU8eBG27zChVewOicYs7Xsdt40qm4+UpHyX7k0/O9NliPc+x77k1/FEsPsj"
        "KPZGJvtRZM1vO+geW0OhGw==",
        {"es5/tex-mml-chtml.js": "mathjax",
         "es5/input/tex/extensions/*": "mathjax/input/tex/extensions",
         "es5/output/chtml/fonts/woff-v2/*": "mathjax/output/chtml/fonts/woff-v2",
         "LICENSE": "mathjax"}),
    "requirejs@2.3.7": (
        "sha512-DouTG8T1WanGok6Qjg2SXuCMzszOo0eHeH9hDZ5Y4x8Je+9JB38HdTLT4/VA8OaU"
        "hBa0JPVHJ0pyBkM1z+pDsw==",
        {"require.js": "widgets"}),
    "@jupyter-widgets/html-manager@1.0.15": (
        "sha512-5thBIV6ymNgmPVOHvzx+gGy8ZSKmSazhtGw4/c4xJDVzRhG9PTeQsRjF3FUTopvF"
        "i//SABeNz1yp47bCrJ3CQA==",
        {"dist/embed-amd.js": "widgets",
         # its icon font is looked up below the module's own name
         "dist/*.woff2": "widgets/@jupyter-widgets/html-manager/dist",
         "dist/embed.js.LICENSE.txt": "widgets"}),
    # the slides' alone: no page of the site loads it
    "reveal.js@4.6.1": (
        "sha512-1CW0auaXNPmwmvQ7TwpszwVxMi2Xr5cTS3J3EBC/HHgbPF32Dn7aiu/LKWDOGjMb"
        "aDwKQiGmfqcoGQ74HUHCMw==",
        {"dist/reveal.js": "reveal", "dist/reveal.css": "reveal",
         "plugin/notes/notes.js": "reveal", "plugin/search/search.js": "reveal",
         "plugin/zoom/zoom.js": "reveal", "LICENSE": "reveal"}),
}


def pack(package: str, digest: str, folder: Path) -> Path:
    """Download the archive of `package` into `folder`; stop if its digest differs."""
    fetched = subprocess.run(
        ["npm", "pack", package, "--loglevel=error", "--pack-destination", str(folder)],
        capture_output=True, text=True)
    if fetched.returncode:
        code = fetched.stderr.partition("\n")[0]  # as `npm error code ENOTFOUND`
        sys.exit(f"{package} could not be fetched from the npm registry, to which this "
                 f"machine needs a connection once: {code}")
    archive = folder / fetched.stdout.split()[-1]
    found = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
    if f"sha512-{found}" != digest:
        sys.exit(f"{package}: the archive's digest is sha512-{found}, not {digest}.")
    return archive


def unpack(archive: Path, wanted: dict[str, str], target: Path) -> int:
    """Copy the `wanted` files out of an npm archive; their number, each pattern met."""
    met = set()
    with tarfile.open(archive) as tar:
        files = {PurePosixPath(*PurePosixPath(member.name).parts[1:]): member
                 for member in tar if member.isfile()}
        for path, member in files.items():
            for pattern, folder in wanted.items():
                if fnmatchcase(str(path), pattern):
                    met.add(pattern)
                    place = target / folder / path.name
                    place.parent.mkdir(parents=True, exist_ok=True)
                    place.write_bytes(tar.extractfile(member).read())
    if missing := sorted(set(wanted) - met):
        sys.exit(f"{archive.name} holds no {missing[0]}.")
    return sum(path.is_file() for path in target.rglob("*"))


def main() -> None:
    """Fill book/_static/vendor; an interrupted attempt leaves the old files."""
    if not shutil.which("npm"):
        sys.exit("Website and slides need npm once, to fetch MathJax, reveal.js and "
                 "the widget player: install Node.js (on Debian and Ubuntu: "
                 "apt install npm).")
    draft = TARGET.parents[1] / "vendor.partial"  # Sphinx would copy it from _static
    shutil.rmtree(draft, ignore_errors=True)
    with tempfile.TemporaryDirectory() as folder:
        for package, (digest, wanted) in PACKAGES.items():
            files = unpack(pack(package, digest, Path(folder)), wanted, draft)
    shutil.rmtree(TARGET, ignore_errors=True)
    draft.replace(TARGET)
    print(f"{files} browser files are in book/_static/vendor.")


if __name__ == "__main__":
    main()
