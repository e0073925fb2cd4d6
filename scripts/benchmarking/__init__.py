"""What scripts/benchmark.py measures: a file a contestant, a file a section."""
