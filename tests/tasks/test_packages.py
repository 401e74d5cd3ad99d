"""Generated packages: their files do what their sentences are computed from."""

import importlib
import sys

from minicoder.tasks.draw import Draw
from minicoder.tasks.packages import STUB, make_package


def test_files_are_importable_and_give_the_outcomes(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    for seed in range(6):
        package = make_package(Draw("test", seed), seed % 3 + 1)
        root = f"made{seed}"
        for path, text in package.files().items():
            target = tmp_path / path.replace(package.name, root, 1)
            target.parent.mkdir(exist_ok=True)
            target.write_text(text.replace(f"from {package.name}.", f"from {root}."))
        outcomes = package.outcomes()
        for f in package.functions:
            module = importlib.import_module(f"{root}.{f.module}")
            got = [getattr(module, f.name)(a) for a in package.arguments[f.argument]]
            assert got == outcomes[f.name], f.name
        for name in [name for name in sys.modules if name.startswith(root)]:
            del sys.modules[name]


def test_layers_use_the_layer_below():
    package = make_package(Draw(3), 3)
    assert [f.level for f in package.functions] == [0] * 4 + [1] * 2 + [2] * 2
    assert all(f.uses.level == f.level - 1 for f in package.functions if f.uses)
    assert len(package.files()) == 5 and len(make_package(Draw(3), 1).files()) == 2
    last = package.functions[-1].name
    assert package.target(last) == f"{package.name}.summary:{last}"


def test_every_bug_differs_from_the_right_body_and_stubs_raise():
    told = total = 0
    for seed in range(30):
        package = make_package(Draw(seed), 3)
        right = package.outcomes()
        for f in package.functions:
            for bug in f.bugs:
                total += 1
                got = package.outcomes({f.name: bug})
                told += repr(got[f.name]) != repr(right[f.name])
            stub = package.outcomes({f.name: STUB})[f.name]
            assert "NotImplementedError" in map(str, stub) or f.level
    assert told > 0.95 * total
