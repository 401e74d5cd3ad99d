from pathlib import Path

import pytest
from show.synthetic import write_run


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    """A complete synthetic run."""
    return write_run(tmp_path / "demo")
