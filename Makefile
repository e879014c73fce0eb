# make quickstart   everything, from nothing to a page of explanations
# make test         the tests
# make site         the documentation, as .cache/site/index.html
# make dist         wheel and source archive in .cache/dist, checked as PyPI would
# make release      the same, and the wheel tried in a fresh environment
# All need python 3.11 to 3.13 and make; another python: make PYTHON=python3.13 quickstart

PYTHON ?= python3
BIN = .venv/bin
RUN = runs/quickstart
TRIAL = .cache/trial

.PHONY: quickstart test lint site dist release clean

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

dist: .venv/ready-dev
	rm -rf .cache/dist && mkdir -p .cache
	$(BIN)/python -m pip install --quiet build 'twine>=6,<8'
	$(BIN)/python -m build --no-isolation --outdir .cache/dist . > .cache/build.log || \
	  { cat .cache/build.log; exit 1; }
	$(BIN)/python -m twine check --strict .cache/dist/*

# As the README tells a stranger to: install it, and its lines of Python on a photograph.
release: dist
	rm -rf $(TRIAL) && $(PYTHON) -m venv $(TRIAL)
	$(TRIAL)/bin/python -m pip install --quiet "$$(ls $$PWD/.cache/dist/*.whl)[pretrained]"
	cp docs/photographs.jpg $(TRIAL)/photo.jpg
	sed -n '/^```python/,/^```$$/{/^```/d;p}' README.md > $(TRIAL)/readme.py
	cd $(TRIAL) && bin/python readme.py && test -s out/index.html
	$(TRIAL)/bin/lficam --version

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
