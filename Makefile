.DEFAULT_GOAL := help
.PHONY: help setup run test test-all lint bench ci clean

help:  ## Show what there is to make
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

setup:  ## Install the runner and what its tests need into the active environment
	pip install -e '.[test]'

run:  ## Train the default job
	ssl-runner

test:  ## Run the tests, one in twelve of the slow ones
	pytest

test-all:  ## Run every test, as before a release
	pytest --slow all

lint:  ## Check style, formatting and types
	ruff check . && ruff format --check . && mypy

bench:  ## Measure the runner against a bare loop
	python scripts/benchmark.py

ci:  ## Everything that a change must pass, in a fresh environment
	bash .ci/run

clean:  ## Remove what building and testing left behind (runs in outputs/ stay)
	rm -rf build dist .pytest_cache .ruff_cache .mypy_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
