# `make` lists the targets. Everything runs in .venv, which `make setup` makes from pyproject.toml.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help setup demo table1 table3 table4 table5 tables tables-check bench bench-gpu lint format clean docs report screenshots notebook
.PHONY: test test-quick test-all test-gpu test-without-extras test-versions
.PHONY: data-voc data-sbd data-coco data-imagenet-check voc-final voc-test-submission
ARGS :=                # overrides of a study: make table3 ARGS='data=voc_aug data.root=... recipe=voc backbone=resnext101_32x4d'
DATA := data           # folder of the data sets: make data-voc DATA=/data
BENCH :=               # options of exfuse bench

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9%-]+:.*## / { printf "  make %-20s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(STAMP)  ## make the environment .venv

$(STAMP): pyproject.toml
	@command -v $(PYTHON) > /dev/null || { echo '$(PYTHON): there is no such program. Name a Python of 3.10 to 3.13: make PYTHON=python3.11'; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 14) and "Python 3.10 to 3.13 is needed, this is " + sys.version.split()[0] + ": make PYTHON=python3.11")'
	@echo 'Making $(VENV): some 230 packages, 7 GB with PyTorch and CUDA; minutes, most of them downloads. `make clean` removes it.'
	@$(VENV)/bin/pip --version > /dev/null 2>&1 || $(PYTHON) -m venv $(VENV)  # another Python's over it would break it
	$(VENV)/bin/pip install --editable '.[dev]'
	touch $@

demo: $(STAMP)  ## all of table 3 on generated scenes, backbones included, one seed (CPU, about 5 minutes on two idle cores)
	$(RUN) -m exfuse train +study=table3_last study.tune=null seed=0 trainer=cpu trainer.precision=auto backbone=resnet_cpu \
	    recipe=demo pretraining/recipe=demo data.size=128 data.root=data/demo_scenes sweep.output=outputs/studies/demo

table1: study-table1_levels  ## run what is missing of the paper's table 1, then render it; ARGS='data=... recipe=...'
table3: study-table3_techniques  ## likewise table 3, the five techniques one after another
table4: study-table4_ecre  ## likewise table 4, the design of ECRE
table5: study-table5_dap  ## likewise DAP against its controls

study-%: $(STAMP)  ## likewise any study of conf/study: make study-factorial
	$(RUN) -m exfuse train +study=$* $(ARGS)

bench: $(STAMP)  ## measure speed against references on this CPU, two threads; BENCH='only=[models]' chooses
	$(RUN) -m exfuse bench output=experiments/benchmarks $(BENCH)

bench-gpu: $(STAMP)  ## likewise on a CUDA GPU, into outputs/benchmarks_gpu; without one it says so and ends
	$(RUN) -m exfuse bench device=cuda output=outputs/benchmarks_gpu $(BENCH)

data-voc: $(STAMP)  ## fetch and check VOC 2012 in DATA=data; goes on where it stopped
	$(RUN) -m exfuse data prepare voc paths.data=$(strip $(DATA)) $(ARGS)

data-sbd: $(STAMP)  ## likewise SBD
	$(RUN) -m exfuse data prepare sbd paths.data=$(strip $(DATA)) $(ARGS)

data-coco: $(STAMP)  ## likewise COCO (20 GB), with the masks of VOC's classes
	$(RUN) -m exfuse data prepare coco paths.data=$(strip $(DATA)) $(ARGS)

data-imagenet-check: $(STAMP)  ## is DATA/imagenet complete? (its licence lets nobody hand it out)
	$(RUN) -m exfuse data check imagenet paths.data=$(strip $(DATA)) $(ARGS)

voc-final: $(STAMP)  ## the paper's three stages, COCO + SBD + VOC to VOC alone; ARGS='backbone=resnext131_32x4d trainer=ddp'
	$(RUN) -m exfuse chain +ablation=exfuse paths.data=$(strip $(DATA)) $(ARGS)

voc-test-submission: $(STAMP)  ## the test server's archive of a run, checked: ARGS='run=outputs/runs/KEY protocol=multi_scale_flip'
	$(RUN) -m exfuse submission make paths.data=$(strip $(DATA)) $(ARGS)

tables: $(STAMP)  ## render every study in experiments/ from its committed records; trains nothing
	$(RUN) -m exfuse study tabulate experiments

tables-check: $(STAMP)  ## fail if a committed table is not what its committed records give
	$(RUN) -m exfuse study check experiments

report: $(STAMP)  ## one HTML page a study in experiments/, into outputs/reports; ARGS='study=outputs/studies'
	$(RUN) -m exfuse report page study=experiments $(ARGS)

SCREENSHOTS_OF := experiments/table3_scenes
screenshots: $(STAMP)  ## the documents' pictures of a page, from committed records and examples (needs Chromium)
	$(RUN) -m tests.screenshots $(SCREENSHOTS_OF)

# One worker more than cores, at most 8: some tests wait for a scheduler, a network or a process of their own.
CORES := $(shell env -u OMP_NUM_THREADS nproc 2>/dev/null || echo 2)
PYTEST := OMP_NUM_THREADS=1 $(RUN) -m pytest -n $(shell echo $$(( $(CORES) < 8 ? $(CORES) + 1 : 8 ))) --dist worksteal
test: $(STAMP)  ## run the tests: some of every kind, some 10 minutes on two idle cores
	$(PYTEST)

test-quick: $(STAMP)  ## likewise without those that take more than seconds
	$(PYTEST) -m 'not slow'

test-all: $(STAMP)  ## all kills, simulations and variants, an hour; the result goes into docs/test-all.md
	$(RUN) -m tests.full

test-gpu: $(STAMP)  ## every path of a CUDA GPU, a line a test as it ends; without one it says so and skips
	$(PYTEST) -vv -rsfE tests/gpu tests/benchmarks tests/metrics/test_confusion.py tests/tasks/test_protocols.py

test-without-extras: $(STAMP)  ## show that the tests of extras skip where an extra is not installed
	EXFUSE_WITHOUT=extras $(PYTEST) -m 'not slow' -p tests.without

VERSIONS :=            # make test-versions VERSIONS='oldest-3.10 newest-3.13'
test-versions:  ## try the oldest and newest admitted torch, Lightning, timm, NumPy and Python, each in an environment of its own
	$(PYTHON) tests/versions.py $(VERSIONS)

lint: $(STAMP)  ## check style and types
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/nbstripout --verify notebooks/*.ipynb
	$(VENV)/bin/mypy

docs: $(STAMP)  ## build the documentation strictly, into site/
	NO_MKDOCS_2_WARNING=1 $(RUN) -m mkdocs build --strict --quiet
	@echo "Open site/index.html."

notebook: $(STAMP)  ## open the notebook that explores a study, in a browser (installs JupyterLab on the first use)
	$(VENV)/bin/pip install --quiet --editable '.[notebook]'
	$(RUN) -m jupyterlab notebooks/explore_study.ipynb

format: $(STAMP)  ## mend style where a tool can
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .
	$(VENV)/bin/nbstripout notebooks/*.ipynb

clean:  ## remove the environment and caches; data/ and outputs/ stay
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
