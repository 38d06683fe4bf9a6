# Each target sets up what it needs: its own virtual environment with pinned requirements.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test bench lint clean

demo: $(READY)
	$(BIN)/mu-demo $(if $(REC),--recording "$(REC)")

test: $(READY)
	$(BIN)/python -m pytest

bench: $(READY)
	$(BIN)/python -m pytest benchmarks/ --benchmark-only

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/mypy

$(READY): pyproject.toml .ci/constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info < (3, 14) else \
	  "training needs Python 3.11 to 3.13, this is %d.%d; type: make demo PYTHON=python3.12" \
	  % sys.version_info[:2])'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c .ci/constraints.txt \
	  -e '.[train-cpu,ort,study,dev]'
	@touch $@

clean:
	rm -rf $(VENV) out build
