# What a person types. Needs make, Python 3.12 or 3.13, and a package index in reach; nothing has to be set.

# A terminal's Python settings are not ours: without byte code every import takes twice as long.
unexport PYTHONDONTWRITEBYTECODE PYTHONPATH PYTHONHOME VIRTUAL_ENV
ifeq ($(PATH),)
export PATH := /usr/local/bin:/usr/bin:/bin
endif
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help
.PHONY: help set-up demo up down status test soak faults bench lint audit lock clean

help:
	@echo 'make demo     set everything up and play six nights through Airflow (REVIEWS=DIR: with real reviews)'
	@echo 'make up       start the embedded stack     make status   look at it     make down   stop it'
	@echo 'make test     all tests                    make lint     format, types, layers'
	@echo 'make soak     histories of nights, crashes and rewrites against a model, until Ctrl-C (SECONDS=600: so long)'
	@echo 'make faults   every fault at full size, with servers and workers really killed, as one table (half an hour; QUICK=1: minutes)'
	@echo 'make audit    look for secrets in the repository, and for known vulnerabilities in what it pins (asks PyPI)'
	@echo 'make bench    speed against the peers, as one table (ARGS="--quick"; ARGS="--help": all options)'
	@echo 'make lock     write requirements.txt anew  (UPGRADE=1: with the newest versions that fit)'
	@echo '.venv/bin/sentiment --help   all commands'

set-up:
	@sh include/setup.sh

demo: set-up
	@if [ -n "$$REVIEWS" ]; then .venv/bin/sentiment demo --reviews "$$REVIEWS"; else .venv/bin/sentiment demo; fi

up down status: set-up
	@.venv/bin/sentiment $@

test: set-up
	@.venv/bin/python -m pytest -n auto --cov --cov-report=term:skip-covered --cov-fail-under=85

soak: set-up
	@.venv/bin/python -m tests.histories $(if $(SECONDS),--seconds $(SECONDS))

faults: set-up
	@FAULTS_FULL=$(if $(QUICK),,1) FAULTS_TABLE=tests/benchmarks/faults.md .venv/bin/python -m pytest -q tests/faults $(ARGS)

bench: set-up
	@.venv/bin/python -m tests.benchmarks $(ARGS)

lint: set-up
	@.venv/bin/ruff format --check .
	@.venv/bin/ruff check .
	@.venv/bin/mypy
	@.venv/bin/lint-imports --no-logo

audit: set-up
	@.venv/bin/python include/audit.py $(ARGS)

lock: set-up
	@.venv/bin/uv pip compile --quiet --universal --python-version 3.12 --no-header --no-annotate --no-emit-index-url \
		$(if $(UPGRADE),--upgrade) --output-file requirements.txt pyproject.toml
	@grep -c '==' requirements.txt | sed 's/$$/ packages pinned in requirements.txt/'

# The environment alone; the stack's data in .local stays.
clean:
	@rm -rf .venv
