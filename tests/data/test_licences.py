"""Licences: what packages declare, and texts known by their sentences."""

import pytest

from minicoder.data.licences import (
    debian_licence,
    declared,
    is_licence_file,
    licence_in_text,
    licence_of_files,
    spdx,
)

MIT = ("Permission is hereby granted, free of charge, to any person obtaining a copy\n"
       "of this software and associated documentation files")
BSD = "Redistribution and use in source and binary forms, with or without modification"


@pytest.mark.parametrize(("text", "name"), [
    (f"The MIT License\n\nCopyright 2026 A\n\n{MIT}", "MIT"),
    ("   Apache License\n   Version 2.0, January 2004", "Apache-2.0"),
    ("GNU GENERAL PUBLIC LICENSE\n  Version 3, 29 June 2007", "GPL-3.0"),
    ("GNU LESSER GENERAL PUBLIC LICENSE\n Version 2.1", "LGPL-2.1"),
    ("GNU AFFERO GENERAL PUBLIC LICENSE\n Version 3", "AGPL-3.0"),
    (BSD, "BSD-2-Clause"),
    (f"{BSD} * Neither the name of the X nor", "BSD-3-Clause"),
    (f"{BSD} All advertising materials mentioning", "BSD-4-Clause"),
    ("Permission to use, copy, modify, and/or distribute this software for any purpose "
     "with or without fee is hereby granted, provided that", "ISC"),
    ("Mozilla Public License Version 2.0", "MPL-2.0"),
    (f"{MIT}\n\nBundled: Apache License Version 2.0", "MIT"),   # the first one counts
    ("# SPDX-License-Identifier: BSL-1.0\nint x;", "BSL-1.0"),
    ("All rights reserved.", "unknown"), ("", "unknown")])
def test_a_text_is_known_by_its_title_or_sentence(text, name):
    assert licence_in_text(text) == name


@pytest.mark.parametrize(("path", "text", "name"), [
    ("package.json", '{"license": "MIT"}', "MIT"),
    ("package.json", '{"license": {"type": "ISC"}}', "ISC"),
    ("package.json", '{"licenses": [{"type": "MIT"}, {"type": "ISC"}]}', "MIT OR ISC"),
    ("package.json", '{"license": 3}', ""), ("package.json", "[]", ""),
    ("package.json", "{", ""), ("package.json", "[" * 100_000, ""),
    ("composer.json", '{"license": ["MIT"]}', "MIT"),
    ("Cargo.toml", '[package]\nlicense = "MIT OR Apache-2.0"', "MIT OR Apache-2.0"),
    ("pyproject.toml", '[project]\nlicense = {text = "MIT"}', "MIT"),
    ("pyproject.toml", '[project]\nlicense = {file = "LICENSE"}', ""),
    ("pyproject.toml", "project = 3", ""), ("Cargo.toml", "= broken", ""),
    ("p-1.dist-info/METADATA", "Name: p\nLicense-Expression: MIT\n\ntext", "MIT"),
    ("PKG-INFO", "Name: p\n", "")])
def test_a_description_declares(path, text, name):
    assert declared(path, text) == name


def test_the_nearest_description_counts_and_texts_come_after():
    inner = {"lib/package.json": '{"license": "ISC"}'}
    assert licence_of_files(inner | {"package.json": '{"license": "MIT"}'}) == "MIT"
    assert licence_of_files({"package.json": "{}", "LICENSE": MIT}) == "MIT"
    seen = {"package.json": '{"license": "SEE LICENSE IN LICENSE"}', "LICENSE": BSD}
    assert licence_of_files(seen) == "BSD-2-Clause"
    assert licence_of_files({"LICENSE": "mine"}) == licence_of_files({}) == "unknown"


def test_files_that_speak_of_licences_are_known_by_name():
    named = ("LICENSE", "a/LICENCE.md", "COPYING.LESSER", "license-mit", "METADATA")
    assert all(map(is_licence_file, named))
    assert not any(map(is_licence_file, ("licensing.py", "MYLICENSE", "a.py")))
    assert spdx("Expat") == "MIT" and spdx("Weird  one") == "Weird one"


def test_debian_stanzas_count_from_the_last_to_the_first():
    of = debian_licence(
        "Format: dep5\n\nFiles: *\nCopyright: A\nLicense: Expat\n Permission …\n\n"
        "Files: src/gpl/* lib/?.c\nCopyright: B\nLicense: GPL-2+\n\n"
        "Files: debian/*\nCopyright: C\nLicense: GPL-3\n\nLicense: GPL-2+\n text\n")
    assert of("usr/include/x/a.h") == "MIT"
    assert of("usr/share/x/src/gpl/deep/a.c") == of("usr/lib/a.c") == "GPL-2+"
    assert of("usr/lib/ab.c") == of("debian/a") == "MIT"
    assert debian_licence(f"The upstream text:\n\n{MIT}")("a") == "MIT"
    assert debian_licence("Format: dep5\n")("a") == "unknown"


@pytest.mark.parametrize(("length", "licence"), [(1000, "MIT"), (1001, "unknown")])
def test_toml_of_long_lines_is_not_read(length, licence):
    key = "a" + ".a" * 400 + " = 1"
    text = f'{key.ljust(length)}\n[package]\nlicense = "MIT"\n'
    assert licence_of_files({"Cargo.toml": text}) == licence
