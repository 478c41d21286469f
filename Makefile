# make quickstart: environment, install, train four synthetic institutions, score a fifth that took no part
# make test:       the same environment plus everything that .ci/run checks
# make docs:       the same environment plus mkdocs, and the documentation as a site in site/
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
RUN    := runs/quickstart

.PHONY: quickstart test docs install dev clean

quickstart: install
	$(BIN)/fedlight fit -c configs/quickstart.yaml --federation.run_folder $(RUN) --ckpt_path last
	$(BIN)/fedlight test --run $(RUN)

test: dev
	PATH="$(CURDIR)/$(BIN):$$PATH" bash .ci/checks

docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

install: $(VENV)/.installed
dev: $(VENV)/.dev

$(VENV)/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	touch $@

$(VENV)/.dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch $@

$(VENV)/.docs: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[docs]"
	touch $@

clean:
	rm -rf $(VENV) build site dist *.egg-info .mypy_cache .ruff_cache .pytest_cache
