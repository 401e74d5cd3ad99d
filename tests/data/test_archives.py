"""Packages are read in place, and hostile ones cost little and lead nowhere."""

import bz2
import gzip
import io
import lzma
import os
import stat
import struct
import subprocess
import sys
import tarfile
import tracemalloc
import zipfile
from pathlib import Path

import pytest
import zstandard

from minicoder.data import archives
from minicoder.data.archives import documents_from_archives, origin_of, tidy
from minicoder.data.sources import LARGEST_FILE
from minicoder.errors import UserError

CODE = "def f():\n    return 1\n"


def read(folder):
    """The documents by path, and [(rule, path)] of what was left out."""
    dropped = []
    documents = list(documents_from_archives(folder, dropped.append))
    assert len({d.path for d in documents}) == len(documents)
    return ({d.path: d for d in documents}, [(d.rule, d.path) for d in dropped],
            [d.reason for d in dropped])


def tar_of(files, *members):
    """A tar archive with `files` {name: text}, after other members."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for info in members:
            tar.addfile(info)
        for name, text in files.items():
            info = tarfile.TarInfo(name)
            data = text if isinstance(text, bytes) else text.encode()
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def zip_of(file, files):
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            archive.writestr(name, text)


def deb_of(data, ending=".xz"):
    """A Debian package: an `ar` archive whose first member has an odd size."""
    out = b"!<arch>\n"
    for name, body in (("debian-binary", b"2.0"), (f"data.tar{ending}", data)):
        out += f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(body):<10}`\n".encode()
        out += body + b"\n" * (len(body) % 2)
    return out


@pytest.mark.parametrize(("name", "pack", "origin"), [
    ("left-1.2.tgz", gzip.compress, "left-1.2"),
    ("left-1.2.tar.gz", gzip.compress, "left-1.2"),
    ("left-1.2.crate", gzip.compress, "left-1.2"),
    ("left-1.2.tar.bz2", bz2.compress, "left-1.2"),
    ("left-1.2.tar.xz", lzma.compress, "left-1.2"), ("left.tar", bytes, "left")])
def test_tars_are_read_without_their_outer_folder(tmp_path, name, pack, origin):
    (tmp_path / name).write_bytes(pack(tar_of({
        "package/a.py": CODE, "package/sub/b.js": "f()\n",
        "package/package.json": '{"license": "MIT"}'})))
    documents, dropped, _ = read(tmp_path)
    assert sorted(documents) == ["a.py", "package.json", "sub/b.js"] and not dropped
    assert documents["a.py"].text == CODE
    assert {(d.origin, d.licence) for d in documents.values()} == {(origin, "MIT")}


def test_zips_are_read_by_their_kind(tmp_path):
    zip_of(tmp_path / "a_b-1.0-py3-none-any.whl", {
        "a_b/x.py": CODE, "a_b-1.0.dist-info/METADATA": "Name: a\nLicense: ISC\n\n"})
    zip_of(tmp_path / "lib-2.jar", {"org/A.java": "class A {}\n", "org/A.class": "\0"})
    zip_of(tmp_path / "src.zip", {"src-main/y.py": CODE, "src-main/LICENSE":
                                  "Mozilla Public License Version 2.0"})
    documents, dropped, _ = read(tmp_path)
    assert {(d.path, d.origin, d.licence) for d in documents.values()} == {
        ("a_b/x.py", "a_b-1.0", "ISC"), ("org/A.java", "lib-2", "unknown"),
        ("y.py", "src", "MPL-2.0")} and not dropped


@pytest.mark.parametrize(("ending", "pack"), [
    (".xz", lzma.compress), (".gz", gzip.compress), ("", bytes),
    (".zst", zstandard.compress)])
def test_debian_packages_have_a_licence_by_file(tmp_path, ending, pack):
    (tmp_path / "php-x_1%3a2.0-1_all.deb").write_bytes(deb_of(pack(tar_of({
        "./usr/share/doc/php-x/copyright":
            "Format: d\n\nFiles: *\nLicense: Expat\n\nFiles: */gpl/*\nLicense: GPL-2\n",
        "./usr/share/php/x.php": "<?php\n", "./usr/share/php/gpl/y.php": "<?php\n"})),
        ending))
    documents, dropped, _ = read(tmp_path)
    assert {p: d.licence for p, d in documents.items()} == {
        "usr/share/php/x.php": "MIT", "usr/share/php/gpl/y.php": "GPL-2"}
    assert {d.origin for d in documents.values()} == {"php-x-1:2.0-1"} and not dropped


def test_a_real_package_agrees_with_the_tool_of_its_kind(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.py").write_text(CODE)
    subprocess.run(["tar", "-C", tmp_path / "in", "-cJf", tmp_path / "x.tar.xz", "."],
                   check=True)
    assert list(read(tmp_path)[0]) == ["a.py"]


def test_zstandard_is_read_or_named(tmp_path, monkeypatch):
    data = zstandard.compress(tar_of({"a.py": CODE}))
    (tmp_path / "z.tar.zst").write_bytes(data)
    assert list(read(tmp_path)[0]) == ["a.py"]
    (tmp_path / "z.tar.zst").write_bytes(b"\x28\xb5\x2f\xfd broken")
    assert read(tmp_path)[1] == [("damaged", "z.tar.zst")]
    monkeypatch.setitem(sys.modules, "zstandard", None)     # as if not installed
    (tmp_path / "z.tar.zst").write_bytes(data)
    documents, dropped, reasons = read(tmp_path)
    assert not documents and dropped == [("damaged", "z.tar.zst")]
    assert "pip install zstandard" in reasons[0]


def special(name, kind, link=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


def test_links_and_devices_are_counted_and_never_followed(tmp_path):
    secret = tmp_path.parent / "secret.py"
    secret.write_text("key = 1")
    (tmp_path / "x.tar").write_bytes(tar_of(
        {"a.py": CODE}, special("link.py", tarfile.SYMTYPE, str(secret)),
        special("hard.py", tarfile.LNKTYPE, str(secret)),
        special("null.py", tarfile.CHRTYPE), special("disk.py", tarfile.BLKTYPE),
        special("pipe.py", tarfile.FIFOTYPE)))
    documents, dropped, _ = read(tmp_path)
    assert list(documents) == ["a.py"]
    assert dropped == [("regular file", f"{name}.py") for name in
                       ("link", "hard", "null", "disk", "pipe")]
    (tmp_path / "x.tar").unlink()
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        info = zipfile.ZipInfo("link.py")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, str(secret))
    assert read(tmp_path)[:2] == ({}, [("regular file", "link.py")])


def test_names_that_lead_away_lead_nowhere(tmp_path):
    names = ["/etc/a.py", "../../b.py", "x/../../c.py", "./d.py", "e\nf.py"]
    (tmp_path / "x.tar").write_bytes(tar_of(dict.fromkeys(names, CODE)))
    before = sorted(tmp_path.parent.iterdir())
    documents, _, _ = read(tmp_path)
    assert sorted(documents) == ["b.py", "d.py", "e\\nf.py", "etc/a.py", "x/c.py"]
    assert sorted(tmp_path.parent.iterdir()) == before
    assert tidy("../..") == tidy("/") == ""


@pytest.mark.parametrize("keep", [0.0, 0.3, 0.6, 0.9])
@pytest.mark.parametrize("name", ["a.tar.gz", "a.tar.xz", "a.tar.zst", "a.tar", "a.zip",
                                  "a.deb"])
def test_an_archive_that_breaks_off_is_noted_and_the_next_one_read(
        tmp_path, name, keep):
    files = {f"p/f{i}.py": f"x = '{os.urandom(900).hex()}'\n" for i in range(40)}
    data = tar_of(files)
    if name == "a.zip":
        zip_of(tmp_path / name, files)
        data = (tmp_path / name).read_bytes()
    else:
        data = {"a.tar.gz": gzip.compress, "a.tar.xz": lzma.compress, "a.tar": bytes,
                "a.tar.zst": zstandard.compress,
                "a.deb": lambda tar: deb_of(lzma.compress(tar))}[name](data)
    (tmp_path / name).write_bytes(data[:int(len(data) * keep)])
    zip_of(tmp_path / "b.zip", {"p/last.py": CODE})
    documents, dropped, reasons = read(tmp_path)
    assert "last.py" in documents and dropped == [("damaged", name)] and reasons[0]
    whole = {path.split("/")[-1]: text for path, text in files.items()}
    assert all(d.text == whole[path.split("/")[-1]]     # what came, came whole
               for path, d in documents.items() if path != "last.py")


def test_a_broken_member_of_a_zip_spoils_no_other(tmp_path):
    zip_of(tmp_path / "a.zip", {"a.py": CODE, "b.py": CODE * 2})
    data = bytearray((tmp_path / "a.zip").read_bytes())
    data[35] ^= 0xff        # in the compressed bytes of a.py
    (tmp_path / "a.zip").write_bytes(data)
    documents, dropped, _ = read(tmp_path)
    assert list(documents) == ["b.py"] and dropped == [("damaged", "a.py")]


@pytest.mark.parametrize("place", [1 << 62, 1 << 63, (1 << 64) - 1])
def test_a_member_where_no_file_reaches_is_damaged(tmp_path, place):
    zip_of(tmp_path / "a.zip", {"a.py": CODE})
    data = (tmp_path / "a.zip").read_bytes()
    entry, end = data.index(b"PK\1\2"), data.index(b"PK\5\6")
    far = bytearray(data[entry:end]) + struct.pack("<HHQ", 1, 8, place)
    far[30:32], far[42:46] = struct.pack("<H", 12), b"\xff" * 4      # see the extra
    tail = bytearray(data[end:])
    tail[12:16] = struct.pack("<I", len(far))
    (tmp_path / "a.zip").write_bytes(data[:entry] + far + tail)
    assert read(tmp_path)[:2] == ({}, [("damaged", "a.py")])


def test_a_debian_member_below_nothing_does_not_go_round(tmp_path):
    head = f"{'x':<48}{-60:<10}`\n".encode()
    (tmp_path / "a.deb").write_bytes(b"!<arch>\n" + head + bytes(60))
    assert read(tmp_path)[1:] == ([("damaged", "a.deb")], ["a member of -60 bytes"])


def test_encrypted_members_are_damaged(tmp_path):
    zip_of(tmp_path / "a.zip", {"a.py": CODE})
    data = bytearray((tmp_path / "a.zip").read_bytes())
    for mark in (b"PK\3\4", b"PK\1\2"):
        data[data.index(mark) + (6 if mark == b"PK\3\4" else 8)] |= 1
    (tmp_path / "a.zip").write_bytes(data)
    assert read(tmp_path)[:2] == ({}, [("damaged", "a.py")])


def test_sizes_and_encodings_are_judged_like_files(tmp_path):
    zip_of(tmp_path / "a.zip", {
        "full.py": b"#" * LARGEST_FILE, "big.py": b"#" * (LARGEST_FILE + 1),
        "latin.py": "é".encode("latin-1"), "empty.py": b"", "x.unheard-of": b"\0",
        "line.py": b"x" * 900_000, "dist/a.js": b"f()\n"})
    documents, dropped, _ = read(tmp_path)
    assert sorted(documents) == ["full.py", "line.py"]
    assert sorted(dropped) == [
        ("UTF-8", "latin.py"), ("empty", "empty.py"), ("file size", "big.py"),
        ("vendored", "a/dist/a.js")]


def test_no_archive_unpacks_to_more_than_the_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "TOTAL", 1 << 20)
    names = [f"{i}.py" for i in range(9)]
    zip_of(tmp_path / "a.zip", {f"a{name}": b"#" * 300_000 for name in names})
    (tmp_path / "b.tgz").write_bytes(gzip.compress(tar_of(
        {f"b{name}": b"#" * 300_000 for name in names})))
    documents, dropped, reasons = read(tmp_path)
    assert sorted(documents) == ["a0.py", "a1.py", "a2.py", "b0.py", "b1.py", "b2.py"]
    assert dropped == [("damaged", "a.zip"), ("damaged", "b.tgz")]
    assert reasons == ["it unpacks to more than 1048576 bytes"] * 2


def test_a_broken_header_in_the_middle_is_noted(tmp_path):
    data = bytearray(tar_of({"a.py": CODE, "b.py": CODE}))
    data[data.index(b"b.py")] ^= 1      # its checksum is now wrong
    (tmp_path / "a.tar").write_bytes(data)
    documents, dropped, reasons = read(tmp_path)
    assert list(documents) == ["a.py"] and dropped == [("damaged", "a.tar")]
    assert "broken header" in reasons[0]


def measured(folder):
    """What `read` gives, and the most bytes that Python held meanwhile."""
    tracemalloc.start()
    try:
        return read(folder), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_many_members_take_no_memory(tmp_path):
    folders = special("folder", tarfile.DIRTYPE).tobuf() * 2000
    (tmp_path / "a.tgz").write_bytes(gzip.compress(folders + bytes(1024)))
    del folders
    assert measured(tmp_path)[1] < 1 << 19


def test_bombs_take_no_memory(tmp_path):
    """16 MiB of zeros as a member, or as a member's name."""
    zeros = tarfile.TarInfo("zeros.py")
    zeros.size = 16 << 20
    name = tarfile.TarInfo("././@LongLink")
    name.type, name.size = tarfile.GNUTYPE_LONGNAME, 16 << 20
    for file, info in (("a.tgz", zeros), ("b.tgz", name)):
        with gzip.open(tmp_path / file, "wb", compresslevel=1) as out:
            out.write(info.tobuf())
            for _ in range(16):
                out.write(bytes(1 << 20))
            out.write(bytes(1024))
    zip_of(tmp_path / "c.zip", {"zeros.py": bytes(16 << 20)})
    (documents, dropped, _), peak = measured(tmp_path)
    assert peak < 3 << 20 and not documents and dropped == [
        ("file size", "zeros.py"), ("damaged", "b.tgz"), ("file size", "zeros.py")]


def test_a_folder_without_packages_is_an_error_that_names_it(tmp_path):
    for folder in (tmp_path, tmp_path / "gone"):
        with pytest.raises(UserError, match=f"{folder} is not a folder with packages"):
            read(folder)


def test_origins_are_names_and_versions():
    assert origin_of(Path("django-5.1.4-py3-none-any.whl")) == "django-5.1.4"
    assert origin_of(Path("bats_1.8.2-1_all.deb")) == "bats-1.8.2-1"
    assert origin_of(Path("serde-1.0.0.crate")) == "serde-1.0.0"
    assert origin_of(Path("x-1.tar.GZ")) == "x-1"
