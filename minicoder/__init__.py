"""minicoder: DeepSeek-Coder-V2 rebuilt from scratch, small enough to read and run."""

import os

__version__ = "1.0.0"  # here alone; pyproject.toml reads it

# Takes effect when torch is loaded after this: threads that wait look a few thousand
# times and then sleep. Asleep at once, a training step of `toy` on two free cores took
# 1.5 times as long; looking for ever, several times on cores that others use too.
os.environ.setdefault("GOMP_SPINCOUNT", "2000")
