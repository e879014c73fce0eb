# make quickstart   everything, from nothing to a page of explanations
# make test         the tests
# make site         the documentation, as .cache/site/index.html
# All need python 3.11 to 3.13 and make; another python: make PYTHON=python3.13 quickstart

PYTHON ?= python3
BIN = .venv/bin
RUN = runs/quickstart

.PHONY: quickstart test lint site clean

quickstart: .venv/ready
	$(BIN)/lficam prepare cluttered_digits
	$(BIN)/lficam train --config cluttered_digits --workdir $(RUN)
	$(BIN)/lficam explain --workdir $(RUN)

test: .venv/ready-dev
	$(BIN)/python -m pytest -n 2

lint: .venv/ready-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

site: .venv/ready-site
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet -c docs . .cache/site

clean:
	rm -rf .venv .cache $(RUN)

.venv/ready: pyproject.toml requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' || \
	  { echo "python 3.11 to 3.13 is needed: make PYTHON=python3.12 quickstart"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

.venv/ready-dev: .venv/ready requirements-dev.txt
	$(BIN)/python -m pip install --quiet -r requirements-dev.txt
	touch $@

.venv/ready-site: .venv/ready docs/requirements.txt
	$(BIN)/python -m pip install --quiet -r docs/requirements.txt
	touch $@
