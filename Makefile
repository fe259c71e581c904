# Each target sets up what it needs, once: a .venv from requirements.lock, brought in line when the lock changes.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test nightly lab report docs check bench lock pocket_vit clean

BIN := .venv/bin
# A .venv that is a link, or that something else made, is used as it is, with the package of this folder, and never changed.
FOREIGN := $(shell { [ -L .venv ] || { [ -e .venv ] && [ ! -e .venv/.cvbench ] && [ ! -e .venv/.ready ]; }; } && echo yes)
ifeq ($(FOREIGN),)
READY := .venv/.ready
else
READY := $(BIN)/python
export PYTHONPATH := $(CURDIR)
ifeq ($(MAKELEVEL),0)
$(info The .venv here was not made by this Makefile: it is used as it is, whatever requirements.lock says.)
endif
endif
unexport PYTHONDONTWRITEBYTECODE
export UV_COMPILE_BYTECODE := 1
NBS := nbs reports tests benchmarks

help:  ## List the targets
	@grep -hE '^[a-z_]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

demo: $(READY)  ## The whole walk on embedded data: adapt, evaluate, report, card
	@$(BIN)/cvbench demo

test: $(READY)  ## Run every notebook and every test
	@OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadgroup --durations=10

PART ?= all
nightly: $(READY)  ## What is long by nature: make nightly PART=arithmetic (or families, intervals, slices)
	@$(BIN)/python tests/nightly.py $(PART)

lab: $(READY)  ## Open JupyterLab on the quickstart
	@$(BIN)/jupyter lab $(if $(filter 0,$(shell id -u)),--allow-root --no-browser) nbs/tutorials/quickstart.ipynb

report: $(READY)  ## Render every notebook of reports/ on the latest run
	@$(BIN)/cvbench report

docs: $(READY) README.md  ## Build the site into _docs, with Quarto where it is installed
	@$(BIN)/python -m cvbench.report.site --out _docs

check: $(READY)  ## Format, lint, types; notebooks clean and in step with the package
	@$(BIN)/ruff format --quiet --check $(NBS) || { echo "Not formatted: run '$(BIN)/ruff format $(NBS)'"; exit 1; }
	@$(BIN)/ruff check --quiet cvbench $(NBS)
	@state() { git ls-files -z --cached --others --exclude-standard nbs reports cvbench | xargs -0 sha256sum 2>/dev/null; sha256sum README.md; }; \
	 before=$$(state); $(BIN)/nbdev-clean; $(BIN)/nbdev-clean --fname reports; $(BIN)/nbdev-export; touch nbs/index.ipynb; $(MAKE) -s README.md; \
	 diff <(echo "$$before") <(state) || { echo "Notebooks were not clean, or the package was not exported from them: now they are; look at git diff"; exit 1; }
	@$(BIN)/mypy
	@echo "check: all good"

bench: $(READY)  ## Run every benchmark; each ends with one line of JSON
	@for b in benchmarks/[a-z]*.py; do echo "== $$b"; $(BIN)/python $$b; done

MINUTES ?= 65
PICTURES ?= 48000
pocket_vit: $(READY)  ## Pretrain the embedded backbone again, beside the present one: make pocket_vit MINUTES=65
	@mkdir -p .cvbench/pocket_vit
	@$(BIN)/python -m cvbench.model.pretrain --minutes $(MINUTES) --pictures $(PICTURES) --out .cvbench/pocket_vit/pocket_vit.safetensors
	@echo "Measure them: $(BIN)/python benchmarks/pocket_vit.py --weights .cvbench/pocket_vit/pocket_vit.safetensors"

README.md: nbs/index.ipynb | $(READY)
	@$(BIN)/jupyter nbconvert --log-level ERROR --to markdown --stdout $< \
	  | sed -E 's#\]\(((images|tutorials|explanations)/)#](nbs/\1#g; s#\]\(\.\./#](#g' > $@

lock: $(READY)  ## Resolve pyproject.toml into requirements.lock
	@$(BIN)/uv pip compile pyproject.toml --all-extras --group dev --universal --python-version 3.11.7 --generate-hashes \
	  --override requirements.override --no-header --no-annotate --no-emit-index-url --quiet -o requirements.lock

clean:  ## Remove what the targets made, the store excepted
	@rm -rf $(if $(FOREIGN),,.venv) _docs _proc dist

.venv/.ready: requirements.lock pyproject.toml
	@python=$$(for p in $${PYTHON:-} python3 python3.13 python3.12 python3.11; do \
	   $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done) || true; \
	 [ -n "$$python" ] || { echo "cvbench needs Python 3.11 or newer. Install it, or name it: make PYTHON=/path/to/python3.12"; exit 1; }; \
	 echo "Setting up .venv, once (about 7 GB with torch) ..."; \
	 [ -x $(BIN)/python ] || { mkdir .venv; touch .venv/.cvbench; $$python -m venv .venv; }; \
	 sed -n '/^uv==/,/[^\\]$$/p' requirements.lock > .venv/uv.txt; \
	 $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r .venv/uv.txt; \
	 $(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes --no-deps -r requirements.lock; \
	 $(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .; \
	 touch .venv/.ready
