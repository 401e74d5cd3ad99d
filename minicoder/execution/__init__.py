"""Running untrusted programs: a pool of processes, limits, and verdicts."""
