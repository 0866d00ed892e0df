# Two commands do everything on a fresh machine with Python 3.11+ and make:
#   make run    build the environment and run the notebook series
#   make test   build the environment and run all tests

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
PRESET ?= tiny
OUT    ?= runs/$(PRESET)
ONLY   ?=
# Families to train and compare: csegsynth, cvae, cgan, cldm, or all.
FAMILIES ?= csegsynth
# Cohorts of your own (folders made by `csegsynth prepare`); empty for the embedded ones.
PRETRAIN ?=
FINETUNE ?=

RUN := --preset $(PRESET) --families $(FAMILIES) --out $(OUT)
RUN += $(if $(PRETRAIN),--pretrain $(PRETRAIN)) $(if $(FINETUNE),--finetune $(FINETUNE))
RUN += $(if $(ONLY),--only $(ONLY))

.PHONY: run test unit series lab studio notebooks lint bench clean

run: $(VENV)/.installed
	$(BIN)/csegsynth run $(RUN)

test: lint unit series

unit: $(VENV)/.installed
	$(BIN)/pytest tests

# nbval runs every notebook again and compares what it prints with what is committed.
series: $(VENV)/.installed
	$(BIN)/pytest --nbval --nbval-sanitize-with tests/nbval_sanitize.cfg \
	    --nbval-cell-timeout 1200 notebooks

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# What everything costs on this machine, which should be idle.
bench: $(VENV)/.installed
	$(BIN)/python benchmarks/bench.py

lab: $(VENV)/.installed
	$(BIN)/pip install -q -c constraints.txt "jupyterlab>=4.3"
	$(BIN)/jupyter lab notebooks

# The studio of a trained series, in the browser.
studio: $(VENV)/.installed
	$(BIN)/pip install -q -c constraints.txt "voila>=0.5.8"
	$(BIN)/csegsynth studio $(OUT) $(if $(FINETUNE),--cohort $(FINETUNE))

# Executes the notebooks in place, with the tiny preset, and makes their outputs comparable.
notebooks: $(VENV)/.installed
	$(BIN)/python -m csegsynth_kit.refresh notebooks

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q -c constraints.txt torch
	$(BIN)/pip install -q -c constraints.txt -e ".[test]"
	touch $@

clean:
	rm -rf $(VENV) runs data/prepared build *.egg-info .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
