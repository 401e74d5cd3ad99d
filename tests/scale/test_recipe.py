"""A recipe lists the sources that `build_corpus` reads, in its order."""

import json
from dataclasses import replace

import pytest

from minicoder.data.corpus import gather
from minicoder.errors import UserError
from minicoder.scale.recipe import Recipe
from minicoder.stages import read_json


def test_the_sources_give_the_documents_of_one_process(recipe):
    noted, expected_notes = [], []
    found = [list(source(noted.append)) for source in recipe.sources()]
    expected = list(gather(recipe.folders, recipe.archives, recipe.pages,
                           recipe.requirements, recipe.scale, recipe.seed,
                           expected_notes.append))
    assert [one for part in found for one in part] == expected
    assert noted == expected_notes
    # loose files, three work trees, six packages, the pages, this machine's texts
    assert len(found) == 1 + 3 + 6 + 1 + 1
    assert [{one.origin for one in part} for part in found[:5]] == [
        {"mine"}, {"one"}, {"three"}, {"two"}, {"first-1.0"}]


def test_a_work_tree_is_one_source_and_this_machines_code_needs_none_beside_it(recipe):
    tree = Recipe(folders=(recipe.folders[0] / "one",)).sources()
    assert len(tree) == 2 and tree[-1].keywords == {"with_code": False}
    assert [one.keywords for one in Recipe().sources()] == [{"with_code": True}]
    pages = Recipe(pages=recipe.pages).sources()
    assert len(pages) == 2 and pages[-1].keywords == {"with_code": True}


def test_settings_are_those_of_the_data_stage(recipe, plain):
    made_by = read_json(plain / "made_by.json")
    assert recipe.settings() | {"seed": recipe.seed} == made_by["settings"]
    assert recipe.recalled() == []
    assert replace(recipe, pages=(plain,)).recalled() == [plain]
    names = [name for name, _ in recipe.in_force()]
    assert names == [rule["rule"] for rule in
                     read_json(plain / "funnel.json")["rules"]]


def test_bad_input_is_named(recipe, tmp_path):
    with pytest.raises(UserError, match="not a folder with packages"):
        Recipe(archives=(tmp_path,)).sources()
    with pytest.raises(UserError, match="'Pyton' is not known.*Python"):
        Recipe(languages=("Pyton",)).sources()
    missing = Recipe(folders=(tmp_path / "no",)).sources()[0]
    with pytest.raises(UserError, match="no is not a folder"):
        list(missing([].append))
    assert Recipe().exam() is None
    leak = json.loads(recipe.benchmarks[0].read_text())["prompt"]
    assert recipe.exam().objection(leak) and not recipe.exam().objection("def f(): 1")
