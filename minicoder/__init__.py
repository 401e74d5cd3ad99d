"""minicoder: DeepSeek-Coder-V2 rebuilt from scratch, small enough to read and run."""

import os

__version__ = "0.1.0"

# Takes effect when torch is loaded after this: threads that wait go to sleep. On a
# machine that others use too, spinning ones were seen to cost ten times the work.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
