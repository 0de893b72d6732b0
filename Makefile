# `make check` is what CI runs, in an environment with the `dev` extra installed and active.
.PHONY: check lint types imports test

check: lint types imports test

lint:
	ruff check .
	ruff format --check .

types:
	mypy autotune tests/commands/test_registry.py

imports:
	lint-imports

test:
	pytest -n 3 --dist loadfile
