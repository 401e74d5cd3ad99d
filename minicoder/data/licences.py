"""Which licence a text or a package's own description declares, as an SPDX name.

A description (`package.json`, `METADATA`, …) is believed as it stands; a licence text
is recognised by its title or its best-known sentence. Nothing here is legal advice: it
tells what travels with a document, and "unknown" where nothing was recognised.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable
from email.message import Message
from email.parser import HeaderParser
from fnmatch import translate
from posixpath import basename

UNKNOWN = "unknown"
LONGEST = 100           # characters of a licence's name
LONGEST_TEXT = 20_000   # characters of a licence text that are looked at
LONGEST_LINE = 1000     # of TOML: its reader takes the square of a dotted key's length
MOST_PATTERNS = 2000    # of a Debian copyright file: more would cost minutes
# what Debian and older packages write for the SPDX name, in lower case
SAME = {"expat": "MIT", "mit license": "MIT", "mit/x": "MIT",
        "apache 2.0": "Apache-2.0", "apache license 2.0": "Apache-2.0",
        "bsd-3-clause": "BSD-3-Clause", "bsd-2-clause": "BSD-2-Clause"}
TAG = re.compile(r"SPDX-License-Identifier:\s*([^\n*]+)")
BSD = "redistribution and use in source and binary forms"
# a sentence in lower case with single spaces, and the SPDX name; the earliest one wins
SENTENCES = (
    (r"permission is hereby granted, free of charge, to any person obtaining a copy of "
     r"this software and associated", "MIT"),
    (r"apache license,? version 2\.0", "Apache-2.0"),
    (r"gnu affero general public license,? version 3", "AGPL-3.0"),
    (r"gnu lesser general public license,? version 3", "LGPL-3.0"),
    (r"gnu lesser general public license,? version 2\.1", "LGPL-2.1"),
    (r"gnu general public license,? version 3", "GPL-3.0"),
    (r"gnu general public license,? version 2", "GPL-2.0"),
    (r"mozilla public license,? (?:version|v\.?) ?2\.0", "MPL-2.0"),
    (r"boost software license - version 1\.0", "BSL-1.0"),
    (r"python software foundation license version 2|psf license agreement for python",
     "PSF-2.0"),
    (r"this is free and unencumbered software released into the public domain",
     "Unlicense"),
    (r"cc0 1\.0 universal", "CC0-1.0"),
    (r"this software is provided 'as-is', without any express or implied warranty",
     "Zlib"),
    (r"permission to use, copy, modify,? (?:and/or|and) distribute this software for "
     r"any purpose with or without fee is hereby granted,? provided", "ISC"),
    (BSD, "BSD"),
)
NAMES = re.compile(r"(?:licen[cs]e|copying|unlicense)(?:[.-][\w.-]*)?$", re.IGNORECASE)
DESCRIPTIONS = ("METADATA", "PKG-INFO", "package.json", "composer.json", "Cargo.toml",
                "pyproject.toml")


def spdx(name: str) -> str:
    """The SPDX name of a licence that goes by another one; else the name, shortened."""
    name = " ".join(name.split())[:LONGEST]
    return SAME.get(name.lower(), name)


def licence_in_text(text: str) -> str:
    """The SPDX name of a licence text or of its SPDX tag, else "unknown".

    `licence_in_text("Apache License\\n  Version 2.0, January 2004")` is "Apache-2.0".
    """
    if tag := TAG.search(text, 0, LONGEST_TEXT):
        return tag[1].strip()[:LONGEST]
    words = " ".join(text[:LONGEST_TEXT].lower().replace("‘", "'").split())
    found = [(match.start(), name) for sentence, name in SENTENCES
             if (match := re.search(sentence, words))]
    name = min(found, default=(0, UNKNOWN))[1]
    if name == "BSD":
        clauses = 4 if "advertising materials" in words else 3 if (
            re.search("neither the names? of|names? .{0,80}may not be used to endorse",
                      words)) else 2
        return f"BSD-{clauses}-Clause"
    return name


def licence_in_headers(about: Message) -> str:
    """The licence that a Python package declares in its METADATA, in one line."""
    field = (about.get("License") or "").strip()
    short = field.split("\n")[0].strip(" =")
    classes = [value.rsplit("::", 1)[-1].strip()
               for value in about.get_all("Classifier") or ()
               if value.startswith("License ::")]
    named = field if field not in ("", "UNKNOWN") and field == short else ""
    return (about.get("License-Expression") or named or ", ".join(classes) or short
            or UNKNOWN)[:LONGEST]


def one_name(value: object) -> str:
    """A licence as `package.json` and others write it: a name, an object or a list."""
    if isinstance(value, list):
        return " OR ".join(filter(None, map(one_name, value)))
    if isinstance(value, dict):
        value = value.get("type") or value.get("text")
    return value.strip().split("\n")[0][:LONGEST] if isinstance(value, str) else ""


def licence_in_toml(about: dict[str, object]) -> str:
    """The licence in a `Cargo.toml` or `pyproject.toml`, "" without one."""
    tables = [about.get("package"), about.get("project")]
    return next((name for table in tables if isinstance(table, dict)
                 and (name := one_name(table.get("license")))), "")


def declared(path: str, text: str) -> str:
    """The licence in one of `DESCRIPTIONS`, "" when it has none or is broken."""
    name = basename(path)
    try:
        if name.endswith(".json"):
            about = json.loads(text)
            return one_name(about.get("license") or about.get("licenses"))
        if name.endswith(".toml"):
            if max(map(len, text.split("\n"))) > LONGEST_LINE:
                return ""
            return licence_in_toml(tomllib.loads(text))
    except (ValueError, AttributeError, RecursionError):
        return ""
    found = licence_in_headers(HeaderParser().parsestr(text))
    return "" if found == UNKNOWN else found


def licence_of_files(files: dict[str, str]) -> str:
    """The licence of a package from its top files {path: text}: declared, then texts.
    """
    rank = {name: number for number, name in enumerate(DESCRIPTIONS)}
    described = sorted((path for path in files if basename(path) in rank),
                       key=lambda path: (path.count("/"), rank[basename(path)]))
    for path in described:
        if (found := declared(path, files[path])) and not found.startswith("SEE "):
            return spdx(found)
    for path in sorted(files, key=lambda path: (path.count("/"), path)):
        if path not in described and (
                found := licence_in_text(files[path])) != UNKNOWN:
            return found
    return UNKNOWN


def is_licence_file(path: str) -> bool:
    """Whether a file says which licence its package has."""
    name = basename(path)
    return name in DESCRIPTIONS or bool(NAMES.match(name))


def debian_licence(text: str) -> Callable[[str], str]:
    """From a Debian `copyright` file, the function path → licence.

    A file in the format DEP-5 names licences by patterns of the source package; the
    last stanza that fits counts. A pattern is held against the end of the installed
    path, since the beginning differs. Other files are read as licence texts.
    """
    stanzas = []
    lines = text.replace("\r\n", "\n") if text.startswith("Format") else ""
    for stanza in re.split(r"\n[ \t]*\n", lines):
        fields = HeaderParser().parsestr(stanza.strip("\n"))
        if fields.get("Files") and fields.get("License"):
            name = spdx(fields["License"].strip().split("\n")[0])
            stanzas += [(re.compile(translate(f"*/{pattern}")), name)
                        for pattern in fields["Files"].split()
                        if not pattern.startswith("debian/")]
    whole = UNKNOWN if stanzas else licence_in_text(text)

    def of(path: str) -> str:
        return next((name for pattern, name in reversed(stanzas[:MOST_PATTERNS])
                     if pattern.match(f"/{path}")), whole)
    return of
