# Each command does its own set-up in .venv; Python 3.11+ and make are enough.
#   make demo PYTHON=/path/to/python3.12    another Python, the first time
#   make demo ARGS="--help"                 words for the program that is started

VENV := .venv
RUN := $(VENV)/bin/python
PIP := $(RUN) -m pip install -q --disable-pip-version-check
NB := notebooks/[0-9]*
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test lab notebooks handout slides book pdf look bench packages clean

help:  ## this list
	@sed -n 's/^\([a-z]*\):.*##/\1 /p' Makefile | awk '{ n = $$1; $$1 = ""; \
	    printf "  make %-10s%s\n", n, $$0 }'

demo: $(VENV)/.core  ## build a whole small coder, from raw source code to GRPO
	@$(RUN) -m minicoder demo $(ARGS)
	@echo "The report: runs/demo/report.html (open it in a browser)"

test: $(VENV)/.tests $(VENV)/.book  ## unit tests, parity tests, every notebook under nbval
	@$(RUN) -m pytest tests notebooks --nbval \
	    --nbval-sanitize-with tests/nbval.cfg $(ARGS)

lab: $(VENV)/.core  ## JupyterLab at the first notebook
	@$(RUN) -m jupyterlab $(firstword $(sort $(wildcard $(NB).ipynb))) $(ARGS)

notebooks: $(VENV)/.tests  ## run notebooks/*.py, write notebooks/*.ipynb with outputs
	@$(RUN) notebooks/build.py build $(ARGS)

handout: $(VENV)/.tests  ## handout/*.ipynb for a class, without outputs and solutions
	@$(RUN) notebooks/build.py handout $(ARGS)

slides: $(VENV)/.tests book/_static/vendor  ## slides of each lesson, in _build/slides
	@$(RUN) notebooks/slides.py $(ARGS)

# --all: a page that is not read again would not warn again
book: $(VENV)/.book book/_static/vendor  ## the website, in _build/html
	@$(RUN) book/write.py
	@$(RUN) $(VENV)/bin/jupyter-book build . --all -W --keep-going -q \
	    --config book/_config.yml --toc book/_toc.yml $(ARGS)

look: $(VENV)/.tests  ## every page and JupyterLab in Chromium, screenshots in runs/look
	@$(MAKE) --no-print-directory book ARGS=
	@rm -rf runs/look
	@SITE=_build/html $(RUN) -m pytest tests/book $(ARGS); status=$$?; \
	    ! test -e runs/look/index.html || echo "All pages: runs/look/index.html"; \
	    exit $$status

pdf: $(VENV)/.book  ## the website on paper, _build/minicoder.pdf (needs Chromium)
	@$(MAKE) --no-print-directory book ARGS=
	@$(RUN) book/pdf.py $(ARGS)

bench: $(VENV)/.tests  ## speed and memory of the model, beside transformers
	@$(RUN) benchmarks/speed.py $(ARGS)

packages: $(VENV)/.core  ## download packages of many languages into runs/packages
	@$(RUN) packages/fetch.py $(ARGS)
	@echo "A corpus of them: $(RUN) -m minicoder data --archives runs/packages"

clean:  ## remove what can be made again in minutes (keeps .venv and runs)
	@rm -rf _build handout book/generated book/*/vendor book/vendor.partial build *.egg-info .*_cache .hypothesis
	@find minicoder tests notebooks figures book benchmarks -name __pycache__ \
	    -prune -exec rm -rf {} + 2>/dev/null || true

# --- set-up: a stamp for each set of packages, made when its last package is in place

book/_static/vendor: book/vendor.py | $(VENV)/.core
	@$(RUN) book/vendor.py && touch $@

# set up once more: an interrupted set-up left packages half written, or the folder has
# moved and the installed minicoder is the one of the old place
again := $(shell cd $(VENV) 2>/dev/null && { test -e .unfinished || \
    test "$$(cat .core 2>/dev/null)" != "$$(pwd -P)"; } && echo again)
.PHONY: again

$(VENV)/.core: requirements.txt pyproject.toml $(again)
	$(if $(busy),$(error $(busy)))
	$(if $(usable),,$(if $(problem),$(error $(problem))))
	@test ! -e $(VENV)/.unfinished || rm -rf $(VENV)
	@echo "Setting up $(VENV): about 1.5 GB and some minutes, once."
	@mkdir -p $(VENV) && echo $$PPID > $(VENV)/.unfinished
	@$(RUN) -c '' 2>/dev/null || $(PYTHON) -m venv $(VENV)
	@$(PIP) $$(sed -n 's/^\(torch==[^ ]*\).*/\1/p' requirements.txt)
	@$(PIP) -r requirements.txt
	@$(PIP) --no-deps -e .
	@cd $(VENV) && pwd -P > .core && rm .unfinished

$(VENV)/.tests: tests/no-deps.txt

$(VENV)/.tests $(VENV)/.book: $(VENV)/.%: %/requirements.txt $(VENV)/.core
	@echo "Adding $< to $(VENV)."
	@echo $$PPID > $(VENV)/.unfinished
	@$(PIP) -c requirements.txt -r $<
	@! test -e $*/no-deps.txt || $(PIP) --no-deps -r $*/no-deps.txt
	@touch $@ && rm $(VENV)/.unfinished

# a second make must not pull .venv away under the first
busy = $(shell p=$$(cat $(VENV)/.unfinished 2>/dev/null) && kill -0 $$p 2>/dev/null \
    && echo "Another make (process $$p) is setting up $(VENV): wait for it, or \
        remove $(VENV) if that process is something else")

# the first Python that is new enough and can build .venv; else python3, to complain of
PYTHON ?= $(or $(shell for p in python3 python3.11 python3.12 python3.13; do \
    $$p -c 'import ensurepip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
    && echo $$p && break; done),python3)

# is there a finished .venv already, so that no other Python is needed?
usable = $(shell test ! -e $(VENV)/.unfinished && $(RUN) -c '' 2>/dev/null && echo yes)

# one sentence that says what is missing, or nothing
problem = $(shell \
    if ! $(PYTHON) -c 'import sys' 2>/dev/null; then \
        echo "minicoder needs Python 3.11 or newer, and $(PYTHON) does not run here"; \
    elif ! $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then \
        echo "minicoder needs Python 3.11 or newer, and $(PYTHON) is $$($(PYTHON) -c \
            'import platform; print(platform.python_version())'): install one, or \
            name it with make PYTHON=/path/to/python3.11"; \
    elif ! $(PYTHON) -c 'import ensurepip' 2>/dev/null; then \
        echo "$(PYTHON) cannot make a virtual environment: install its venv module \
            (on Debian and Ubuntu: apt install python3-venv) and run make again"; \
    fi)
