"""Benchmarks are no tests: `make bench` runs them, pytest passes them by."""

collect_ignore_glob = ["*.py"]
