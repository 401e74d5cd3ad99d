"""The table of languages: complete, unambiguous, and right about real beginnings."""

import hashlib
import re
import tomllib
from pathlib import Path

import pytest

from minicoder.data import languages
from minicoder.data.languages import (
    LANGUAGES,
    detect,
    interpreter,
    language_named,
    language_of,
)

ROOT = Path(__file__).parents[2]
LIST = ROOT.parent / "shared/data/languages/deepseek_supported_langs.txt"
BEYOND = {"YAML", "Markdown", "reStructuredText", "Text", "TOML"}
RULES = tomllib.loads((ROOT / "minicoder/data/languages.toml").read_text("utf-8"))[
    "rules"]
PATTERNS = [(endings, name, pattern) for endings, rules in RULES.items()
            for name, pattern in rules]


def name_of(language):
    return language and language.name


def test_the_338_names_are_those_of_the_published_list():
    names = {lang.name for lang in LANGUAGES} - BEYOND
    assert len(names) == 338 and len(LANGUAGES) == 338 + len(BEYOND)
    digest = hashlib.sha256("\n".join(sorted(names)).encode()).hexdigest()
    assert digest == "ace3f71e9983899f99549817b6956f6b865382f4fe2f1607093d47c712af086d"


def test_the_338_names_equal_the_file_itself():
    if not LIST.is_file():
        pytest.skip(f"{LIST.name} is not beside the repository")
    names = LIST.read_text(encoding="utf-8").splitlines()
    assert {lang.name for lang in LANGUAGES} - BEYOND == set(names)


@pytest.mark.parametrize(("path", "name", "kind"), [
    ("a/b.py", "Python", "code"), ("x.PY", "Python", "code"),
    ("Makefile", "Makefile", "code"), ("deep/CMakeLists.txt", "CMake", "code"),
    ("style.xsl", "XSLT", "code"), ("README.md", "Markdown", "text"),
    ("notes.txt", "Text", "text"), ("a.html.erb", "HTML ERB", "code"),
    ("v1.2.rs", "Rust", "code"), ("a.tsx", "TypeScript", "code"),
    ("a.h", "C", "code"), ("a.s", "Assembly", "code"), ("a.ipynb",
    "Jupyter Notebook", "code"), ("a.toml", "TOML", "code")])
def test_a_file_name_tells_the_language(path, name, kind):
    language = language_of(path)
    assert (language.name, language.kind) == (name, kind)
    assert language_named(name) is language


@pytest.mark.parametrize("path", ["a.bin", "py", ".py.bak", "a.py/x", "", "a.", "a/"])
def test_unknown_names_have_none(path):
    assert language_of(path) is None and detect(path, "x = 1\n") is None


def test_a_shared_ending_has_rules_for_all_its_languages_and_for_no_other():
    ruled = {ending: {name for name, _ in rules if name}
             for endings, rules in RULES.items() for ending in endings.split()}
    owners = {}
    for lang in LANGUAGES:
        assert lang.endings or lang.files
        for ending in lang.endings:
            owners.setdefault(ending, set()).add(lang.name)
            assert ending == ending.lower() and ending[0] == "."
    shared = {ending for ending, names in owners.items() if len(names) > 1}
    assert shared <= set(ruled) and len(shared) >= 25
    assert {ending: owners.get(ending) for ending in ruled} == ruled


@pytest.mark.parametrize("part", ["name", "files", "interpreters"])
def test_no_name_file_or_interpreter_means_two_languages(part):
    every = [item for lang in LANGUAGES for item in
             ([lang.name] if part == "name" else getattr(lang, part))]
    assert len(every) == len(set(every))


def test_a_comment_has_a_beginning_and_stays_on_its_line():
    for lang in LANGUAGES:
        before, after = lang.comment
        assert before.strip() and "\n" not in before + after, lang.name
    assert language_named("C").comment == ("/* ", " */")
    assert language_named("Python").comment == ("# ", "")
    assert language_named("Groff").comment == ('.\\" ', "")
    assert language_named("COBOL").comment[0].index("*") == 6   # column 7


@pytest.mark.parametrize(("endings", "name", "pattern"), PATTERNS)
def test_a_rule_stays_inside_a_line(endings, name, pattern):
    """So that the width of a line bounds its cost."""
    re.compile(pattern)
    assert not re.search(r"\\[sWD]|\(\?[a-z]*s", pattern)
    assert all("\\n" in taken for taken in re.findall(r"\[\^([^\]]*)\]", pattern))
    assert pattern or RULES[endings][-1] == [name, pattern]


@pytest.mark.parametrize(("line", "name"), [
    ("#!/usr/bin/python3.11", "Python"), ("#! /bin/sh -e", "Shell"),
    ("#!/usr/bin/env -S A=1 node --x", "JavaScript"), ("#!", None),
    ("#!/usr/bin/env perl", "Perl"), ("#!/usr/bin/env", None),
    ("#!/opt/strange", None), (" #!/bin/sh", None)])
def test_a_shebang_names_the_interpreter(line, name):
    assert name_of(interpreter(line + "\nx")) == name
    assert name_of(detect("run", line + "\nx")) == name


@pytest.mark.parametrize(("path", "text", "name"), [
    ("a.h", "int f(void);", "C"), ("a.h", "namespace a {", "C++"),
    ("a.h", "#include <vector>", "C++"), ("a.h", "#include <stdio.h>", "C"),
    ("a.h", "@interface A : B", "Objective-C"), ("a.h", "/* a class of things */", "C"),
    ("a.m", "x = 1; % one", "MATLAB"), ("a.m", "#import <A/A.h>", "Objective-C"),
    ("a.m", "# one\nendfunction", "Octave"), ("a.m", ":- module foo.", None),
    ("a.pl", "use strict;", "Perl"), ("a.pl", "use v6;", "Perl 6"),
    ("a.pl", "a(X) :- b(X).", None), ("a.t", "#!/usr/bin/perl\n", "Perl"),
    ("a.ts", "let x: number = 1", "TypeScript"), ("a.ts", "<TS version='2'>", "XML"),
    ("a.v", "module top (input a);", "Verilog"), ("a.v", "Proof. auto. Qed.", None),
    ("a.r", "x <- 1", "R"), ("a.r", "REBOL []", None), ("a.cls", "\\ProvidesClass{a}",
    "TeX"), ("a.cls", "VERSION 1.0 CLASS", "Visual Basic"),
    ("a.sql", "select 1;", "SQL"), ("a.sql", "DECLARE @x int", "Transact-SQL"),
    ("a.inc", "<?php echo 1;", "PHP"), ("a.inc", "#declare X = 1;", "POV-Ray"),
    ("a.inc", "nothing to see", None), ("a.fs", "let x = 1", "F#"),
    ("a.fs", "#version 330", "GLSL"), ("a.fs", ": square dup * ;", None),
    ("a.md", "# Title", "Markdown"), ("a.md", "(define_insn \"a\"", None),
    ("a.as", "public class A {}", "ActionScript"), ("a.d", "a.o: a.c a.h", "Makefile"),
    ("a.d", "module a.b;", None), ("a.e", "class A feature", "Eiffel"),
    ("a.f", "      program a\nc one", "Fortran Fixed Form"),
    ("a.f", "program a", "Fortran"), ("a.g", "G01 X1", "G-Code"),
    ("a.g", "f := x -> x;", "GAP"), ("a.l", "%option noyywrap", "Lex"),
    ("a.l", ".TH A 1", "Groff"), ("a.lisp", "(defun f ())", "Common Lisp"),
    ("a.cl", "__kernel void f() {}", "OpenCL"), ("a.cl", "(in-package a)",
    "Common Lisp"), ("a.b", "implement A;", "Limbo"), ("a.b", "+++>++[<->]",
    "Brainfuck"), ("a.bb", "(ns a)", "Clojure"), ("a.ml", "let rec f x = x", "OCaml"),
    ("a.ml", "structure A = struct", "Standard ML"), ("a.mod", "MODULE A;", "Modula-2"),
    ("a.mod", "param n;", "AMPL"), ("a.mod", "module example.com/a", None),
    ("a.rs", "fn main() {}", "Rust"), ("a.rs", "#pragma version(1)", "RenderScript"),
    ("a.sc", "object A", "Scala"), ("a.sc", "~a = 1;", "SuperCollider"),
    ("a.pp", "package { 'a': }", "Puppet"), ("a.pp", "unit A;", "Pascal"),
    ("a.s", ".globl main", "GAS"), ("a.s", "mov ax, 1", "Assembly"),
    ("a.asm", "section .text", "NASM"), ("libx.so.1", "binary", None),
    ("a.1", ".TH A 1", "Groff"), ("pip3.7", "#!/usr/bin/python", "Python"),
    ("index", "<!DOCTYPE html>", "HTML"), ("index", "see <!DOCTYPE html>", None),
    ("a.py", "#!/bin/sh", "Python"),
    ("a.ts", "#!/usr/bin/node", "TypeScript"), ("Makefile", "#!/bin/sh", "Makefile")])
def test_content_decides_where_the_name_is_in_doubt(path, text, name):
    assert name_of(detect(path, text)) == name
    assert name_of(detect("deep/" + path, text.replace("\n", "\r\n"))) == name


@pytest.mark.parametrize(("text", "name"), [
    ("\n" * 49_994 + "std::x", "C++"), ("\n" * 49_995 + "std::x", "C"),
    (" " * 194 + "std::x", "C++"), (" " * 195 + "std::x", "C")])
def test_only_the_beginnings_of_a_file_and_of_a_line_are_seen(text, name):
    assert name_of(detect("a.h", text)) == name


def test_the_likeliest_language_is_one_of_those_that_content_may_choose():
    for ending, rules in languages._RULES.items():
        if ending:
            assert language_of("a" + ending) in [lang for lang, _ in rules if lang]
