"""What statements of each language ask for, in repositories of a few lines."""

import signal

import pytest

from minicoder.data.dependencies import FAMILIES, dependencies
from minicoder.data.imports import use_paths
from minicoder.data.languages import language_named
from minicoder.data.sources import Document

ENDINGS = {"py": "Python", "pyi": "Python", "c": "C", "h": "C", "hpp": "C++",
           "cpp": "C++", "m": "Objective-C", "cu": "CUDA", "java": "Java",
           "kt": "Kotlin", "scala": "Scala", "cs": "C#", "php": "PHP", "go": "Go",
           "rs": "Rust", "rb": "Ruby", "lua": "Lua", "pm": "Perl", "hs": "Haskell",
           "js": "JavaScript", "mjs": "JavaScript", "ts": "TypeScript", 
           "sol": "Solidity", "tsx": "TypeScript", "vue": "Vue"}


def repository(files, origin="own"):
    return [Document(text, path, ENDINGS[path.rsplit(".", 1)[1]], "code", origin, "MIT")
            for path, text in files.items()]


def asked(files, origin="own"):
    """{user: [used, ...]} by path."""
    documents, found = repository(files, origin), {}
    for used, user in dependencies(documents):
        found.setdefault(documents[user].path, []).append(documents[used].path)
    return {user: sorted(used) for user, used in found.items()}


def of(text, path, others, origin="own"):
    """What one file asks of others that are empty."""
    files = {one: other for one, other in others.items()} if isinstance(
        others, dict) else dict.fromkeys(others, "")
    return asked({**files, path: text}, origin).get(path, [])


PY = ["p/__init__.py", "p/a.py", "p/b.py", "p/q/__init__.py", "p/q/c.py"]


@pytest.mark.parametrize("text, used", [
    ("import p.a", ["p/a.py"]),
    ("import os, p.a as x, p.b", ["p/a.py", "p/b.py"]),
    ("from p import a, name", ["p/__init__.py", "p/a.py"]),
    ("from p.q import (  # (see b)\n  c as d,\n  other,\n)\n",
     ["p/q/__init__.py", "p/q/c.py"]),
    ("from . import (\n    a,\n)", ["p/a.py"]), ("from .a import x", ["p/a.py"]),
    ("from .q.c import x; from .q import *", ["p/q/__init__.py", "p/q/c.py"]),
    ("from .. import a", []), ("from .import b", ["p/b.py"]),
    ("from p import a, \\\n    b", ["p/a.py", "p/b.py"]),
    ("try: import p.a\nexcept ImportError: pass", ["p/a.py"]),
    ("def f():\n    from p.a import x", ["p/a.py"]),
    ('"""\nimport p.a\n"""\n# import p.b\nx = "import p.b"', []),
    ("import p.nothing, a, json\nfrom nowhere import p", []),
    ("import p.q", ["p/q/__init__.py"]), ("important p.a", []),
    ("from p.a import x\rfrom p.b import y", ["p/a.py"]),   # \r ends no line here
])
def test_python(text, used):
    assert of(text, "p/me.py", PY) == used


def test_python_from_deeper_and_from_outside():
    assert of("from .. import a\nfrom ..b import x\nfrom ... import y", "p/q/me.py",
              PY) == ["p/a.py", "p/b.py"]
    assert of("from p import a", "tests/me.py", PY) == ["p/a.py"]
    assert of("from p import a", "tests/me.py", ["src/" + one for one in PY]
              ) == ["src/p/a.py"]
    assert of("import n.m", "me.py", ["src/n/m.py"]) == ["src/n/m.py"]
    assert of("from . import x", "__init__.py", ["x.py"]) == ["x.py"]
    assert of("import a", "p/me.py", PY) == []      # in a package it is p.a


def test_python_own_names_of_the_standard_library_only_where_python_finds_them():
    files = ["tools/json.py", "tools/x.py"]
    assert of("import json", "me.py", files) == []
    assert of("import json", "tools/me.py", files) == ["tools/json.py"]
    assert of("import json", "Lib/a/me.py", ["Lib/json/__init__.py"]
              ) == ["Lib/json/__init__.py"]


def test_python_prefers_a_module_to_its_stub():
    assert of("import x.a", "z.py", ["x/a.py", "x/a.pyi"]) == ["x/a.py"]
    assert of("import x.a", "z.py", ["x/a.pyi"]) == ["x/a.pyi"]


@pytest.mark.parametrize("text, used", [
    ('#include "a.h"', ["src/a.h"]), ("#include <lib/a.h>", ["include/lib/a.h"]),
    ('  #  include "../include/lib/b.hpp" // x', ["include/lib/b.hpp"]),
    ("#include <b.hpp>", ["include/lib/b.hpp"]), ('#import "a.h"', ["src/a.h"]),
    ("#include <string.h>", []), ('#include "string.h"', ["compat/string.h"]),
    ('/* \n#include "a.h"\n*/ // #include "a.h"', []), ('#include "h"', []),
    ('#include "x/y.h"\n#include NAME\n#include ".h"', []),
])
@pytest.mark.parametrize("ending", ["c", "cpp", "m", "cu"])
def test_c_family(text, used, ending):
    assert of(text, f"src/me.{ending}", ["src/a.h", "include/lib/a.h",
              "include/lib/b.hpp", "compat/string.h"]) == used


@pytest.mark.parametrize("text, used", [
    ("import x from './a'", ["src/a.ts"]), ('import "./a.js"', ["src/a.ts"]),
    ("export * from './d';", ["src/d/index.js"]),
    ("const a = require('../b')", ["b.js"]),
    ("await import(\n 'own/src/a')", ["src/a.ts"]),
    ("import {\n x,\n} from './a'", ["src/a.ts"]),
    ("import x from 'own'", ["index.ts"]), ("import x from 'react'; fetch('./a')", []),
    ("// import './a'\n/* require('./a') */", []),
    ("import './c.vue'", ["src/c.vue"]),
    ("import x from '.'", ["src/index.tsx"]), ("import './nothing'", []),
])
@pytest.mark.parametrize("ending", ["js", "ts", "tsx", "mjs"])
def test_scripts(text, used, ending):
    assert of(text, f"src/me.{ending}", ["src/a.ts", "src/d/index.js", "b.js",
              "src/c.vue", "index.ts", "src/index.tsx"]) == used


def test_solidity_imports_like_a_script():
    assert of('import {A} from "../a.sol";', "x/me.sol", ["a.sol"]) == ["a.sol"]


JAVA = {"x/A.java": "package a.b;\npublic class A {}",
        "x/B.java": "package a.b;\ninterface B { class Inner {} }",
        "x/C.java": "package a.c;\nenum C { ONE }"}


@pytest.mark.parametrize("text, used", [
    ("import a.b.A;", ["x/A.java"]), ("import static a.c.C.ONE;", ["x/C.java"]),
    ("import a.b.*;\nB b;", ["x/B.java"]), ("import a.b.B.Inner;", ["x/B.java"]),
    ("import a.z.A;\nimport java.util.*;", []), ("// import a.b.A;", []),
    ("import a.b.*;\n", []),
])
def test_java(text, used):
    assert of("package me;\n" + text, "x/Me.java", JAVA) == used
    assert of("package me\n" + text.replace(";", "").replace("static ", ""), "x/Me.kt",
              JAVA) == used


def test_kotlin_scala_csharp_and_php_have_their_own_words():
    assert of("import a.twice", "me.kt", {"k.kt": "package a\nfun twice() = 2"}
              ) == ["k.kt"]
    scala = {"s.scala": "package a.b\nobject S\ntrait T",
             "u.scala": "package a.b\nclass U"}
    assert of("import a.b.{S, T => V}", "me.scala", scala) == ["s.scala"]
    assert of("import a.b._\nnew U", "me.scala", scala) == ["u.scala"]
    sharp = {"a.cs": "namespace A.B { public class One {} }",
             "b.cs": "\ufeffnamespace A.B;\nrecord struct Two(int X);"}
    assert of("\ufeffusing System;\nusing A.B;\nvar x = new Two(1);", "me.cs", sharp
              ) == ["b.cs"]
    assert of("using static A.B.One;", "me.cs", sharp) == ["a.cs"]
    assert of("using Short = A.B.One;", "me.cs", sharp) == ["a.cs"]
    php = {"s/One.php": "<?php\nnamespace A\\B;\nfinal class One {}",
           "s/two.php": "<?php\nnamespace A\\B;\ninterface Two {}", "s/f.php": "<?php"}
    assert of("<?php\nuse A\\B\\One;", "s/me.php", php) == ["s/One.php"]
    assert of("<?php\nuse \\A\\B\\{One, Two as Z};", "s/me.php", php
              ) == ["s/One.php", "s/two.php"]
    assert of("<?php\nrequire_once __DIR__ . '/f.php';", "s/me.php", php) == ["s/f.php"]
    assert of("<?php\nf(function () use ($x) {});", "s/me.php", php) == []


def test_go_asks_for_all_files_of_a_package():
    files = ["doc/a.go", "doc/b.go", "doc/a_test.go", "own.go", "src/errors/e.go"]
    text = 'package me\nimport (\n\td "github.com/x/own/doc" // (\n\t"errors"\n)\n'
    assert of(text, "cmd/me.go", files) == ["doc/a.go", "doc/b.go", "src/errors/e.go"]
    assert of('import "github.com/x/own"', "cmd/me.go", files) == ["own.go"]
    assert of('import "github.com/x/other/doc"', "cmd/me.go", files) == []
    assert of('import "doc"', "cmd/me.go", files) == []
    assert of('import "x.org/m/doc"', "y.go", ["go/src/x.org/m/doc/a.go"]
              ) == ["go/src/x.org/m/doc/a.go"]


RUST = ["src/lib.rs", "src/a.rs", "src/a/b.rs", "src/c/mod.rs", "src/c/d.rs"]


@pytest.mark.parametrize("path, text, used", [
    ("src/lib.rs", "pub mod a; mod c { mod d; }", ["src/a.rs"]),
    ("src/a.rs", "mod b;\nuse crate::c::d::Name;", ["src/a/b.rs", "src/c/d.rs"]),
    ("src/a.rs", "use crate::{c::{self, d as e}, Root};",
     ["src/c/d.rs", "src/c/mod.rs", "src/lib.rs"]),
    ("src/a/b.rs", "use super::super::c::Name;", ["src/c/mod.rs"]),
    ("src/c/mod.rs", "use self::d::X; use std::fmt; // mod a;", ["src/c/d.rs"]),
    ("src/c/d.rs", "use super::*;", ["src/c/mod.rs"]),
    ("src/main.rs", "mod a;", ["src/a.rs"]),
    ("tests/t.rs", "use my_own::a::X;", []),
])
def test_rust(path, text, used):
    assert of(text, path, [one for one in RUST if one != path]) == used


def test_rust_crates_of_a_workspace_know_each_other():
    files = ["my-own/src/lib.rs", "my-own/src/a.rs", "other-1.0.2/src/lib.rs"]
    assert of("use my_own::a::X; use other::Y; use std::a;", "bin/src/main.rs", files
              ) == ["my-own/src/a.rs", "other-1.0.2/src/lib.rs"]


def test_the_paths_of_a_use():
    def paths(tree):
        return ["::".join(path) for path in use_paths(tree)]

    assert paths("a::b") == ["a::b"] and paths("a::{b, c as x}, d") == [
        "a::b", "a::c", "d"]
    assert paths("a::{b::{c, d}, e::{self}}") == ["a::b::c", "a::b::d", "a::e::self"]
    assert paths("a::*") == ["a"] and paths("}}a{{") == ["a"] and paths("") == []


@pytest.mark.parametrize("path, text, used", [
    ("lib/own/me.rb", "require 'own/a'", ["lib/own/a.rb"]),
    ("lib/own/me.rb", "require_relative 'a'", ["lib/own/a.rb"]),
    ("lib/own/me.rb", 'autoload :A, "own/a.rb"', ["lib/own/a.rb"]),
    ("lib/own/me.rb", "require 'a'\n# require 'own/a'", []),
    ("lua/me.lua", "local a = require 'pl.a'", ["usr/share/lua/5.3/pl/a.lua"]),
    ("lua/me.lua", 'require("pl.b") -- require("pl.a")',
     ["usr/share/lua/5.3/pl/b/init.lua"]),
    ("me.pm", "use Own::A qw(x);\n=head1 X\n\nuse Own::B;\n\n=cut\n", ["lib/Own/A.pm"]),
    ("me.hs", "import qualified Own.A as A\nimport Own.B\n-- import Own.C",
     ["src/Own/A.hs", "src/Own/B.hs"]),
])
def test_files_on_a_load_path(path, text, used):
    assert of(text, path, ["lib/own/a.rb", "usr/share/lua/5.3/pl/a.lua",
              "usr/share/lua/5.3/pl/b/init.lua", "lib/Own/A.pm", "lib/Own/B.pm",
              "src/Own/A.hs", "src/Own/B.hs", "src/Own/C.hs"]) == used


HOSTILE = ["/*", "'", '"', "`", '"""', "\\", "=begin\n", "--[[", "{-", "import (\n",
           "from x import (\n", "import ", "use a{", "use ", "{a::", "mod ", "using ",
           "require(",
           "#include <", "namespace ", "class ", "from ", "a.", "import x, "]
SEEN = {(one.comments, one.asks): one for one in FAMILIES}


@pytest.mark.parametrize("family", SEEN.values(), ids=lambda one: min(one.languages))
def test_hostile_files_end(family):
    """A search that starts anew at each place would take hours here."""
    def stop(number, frame):
        raise AssertionError(f"{family.languages} hangs on {piece!r}")

    signal.signal(signal.SIGALRM, stop)
    for piece in HOSTILE:
        text = piece * (200_000 // len(piece))
        signal.alarm(10)
        dependencies([Document(text, "a/x", min(family.languages), "code", "o", "")])
        signal.alarm(0)


def test_a_thousand_namespaces_with_a_thousand_types_end():
    spaces = "".join(f"namespace N{n}\nclass T{n} {{}}\n" for n in range(3000))
    using = "".join(f"using N{n};\n" for n in range(3000))
    signal.alarm(10)
    assert of(using + "T7 T8 X9", "me.cs", {"a.cs": spaces}) == ["a.cs"]
    signal.alarm(0)


def test_every_language_is_in_the_table_and_in_one_family():
    """A family of a language that no file is ever said to have would be dead."""
    names = [name for family in FAMILIES for name in family.languages]
    assert len(names) == len(set(names)) and all(map(language_named, names))
