# `make` lists the targets. Everything runs in .venv, which `make setup` makes from pyproject.toml.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint format clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(STAMP)  ## make the environment .venv

$(STAMP): pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or newer is needed: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --editable '.[dev]'
	touch $@

demo: $(STAMP)  ## pretrain and train a baseline and the full model on generated scenes, compare them (CPU, under 10 minutes)
	$(RUN) -m src.train +ablation=baseline trainer=cpu paths.runs=outputs/demo
	$(RUN) -m src.train +ablation=exfuse_last trainer=cpu paths.runs=outputs/demo
	$(RUN) -m src.compare outputs/demo

test: $(STAMP)  ## run all tests
	OMP_NUM_THREADS=1 $(RUN) -m pytest -n auto --maxprocesses 8

lint: $(STAMP)  ## check style and types
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

format: $(STAMP)  ## mend style where a tool can
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

clean:  ## remove the environment and caches; data/ and outputs/ stay
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
