# Two commands do everything: `make study` and `make test`. PROFILE is toy, demo (default), cpu or paper.
PYTHON ?= python3
PROFILE ?= demo
BIN := .venv/bin
READY := .venv/.ready

.PHONY: help study test quick faults bench bench-revisions gpu bench-lm lab lint docs report slides doctor clean clean-all
.PHONY: lock licences sbom audit mutants archive screens

help:  ## what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-15s %s\n", $$1, $$2}' Makefile

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and f"kdnb needs Python 3.11 or newer, {sys.executable} is {sys.version.split()[0]}; try make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $(READY)

study: $(READY)  ## the whole study: notebooks through papermill, then the report
	$(BIN)/kdnb study --profile $(PROFILE)

test: $(READY)  ## the tests, every notebook among them
	@$(BIN)/python -c 'import ray' 2>/dev/null || $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[cluster]' || echo 'no Ray here: its tests are skipped'
	$(BIN)/python -m kdnb.data.assets
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

quick: $(READY)  ## the tests without those marked slow
	$(BIN)/python -m kdnb.data.assets
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not slow"

FAULTS ?= 200
faults: $(READY)  ## faults put in on purpose: docs/reliability.md, which tells how long it took; FAULTS=8 random kills are quicker
	$(BIN)/python -m kdnb.data.assets
	$(BIN)/python -m pytest tests/faults --ignore tests/faults/test_page.py -n 2 --dist load --faults $(FAULTS) --faults-to docs/reliability.json
	$(BIN)/python docs/write_reliability.py

.venv-bench/.ready: pyproject.toml constraints.txt benchmarks/requirements.txt
	$(PYTHON) -m venv .venv-bench
	@echo '*' > .venv-bench/.gitignore
	.venv-bench/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable .
	.venv-bench/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --requirement benchmarks/requirements.txt
	.venv-bench/bin/python -m pip install --quiet --disable-pip-version-check --no-deps torchdistill==1.1.5
	@touch $@

bench: .venv-bench/.ready  ## kdnb beside other tools, start-up, cost against size: benchmarks/results.md
	.venv-bench/bin/python benchmarks/bench.py $(BENCH)

bench-revisions: $(READY)  ## OLD=... NEW=...: does one commit train as fast as another? some ten minutes
	@test -n '$(OLD)' || { echo 'make bench-revisions OLD=revision [NEW=revision]' >&2; exit 2; }
	$(BIN)/python benchmarks/revisions.py $(OLD) $(NEW) $(REVISIONS)

# GPU_ENV names another environment that has torch with CUDA; empty takes PYTHON as it is: neither needs a network.
GPU_ENV ?= .venv-bench
gpu: $(if $(filter .venv-bench,$(GPU_ENV)),.venv-bench/.ready)  ## on a CUDA machine, 8 minutes: benchmarks/gpu.json
	$(if $(GPU_ENV),$(GPU_ENV)/bin/python,$(PYTHON)) benchmarks/gpu.py $(GPU)

bench-lm: $(if $(filter .venv-bench,$(GPU_ENV)),.venv-bench/.ready)  ## language models beside other loops, two minutes on a GPU: benchmarks/lm.json
	$(if $(GPU_ENV),$(GPU_ENV)/bin/python,$(PYTHON)) benchmarks/lm.py $(LM)

lab: $(READY)  ## JupyterLab on loopback, with its token
	@$(BIN)/jupyter labextension disable --level=sys_prefix @jupyterlab/apputils-extension:announcements >/dev/null 2>&1
	$(BIN)/jupyter lab --ip=127.0.0.1 --notebook-dir=notebooks $(if $(filter 0,$(shell id -u)),--allow-root)

lint: $(READY)  ## ruff on code and notebooks, mypy on the package
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

docs: $(READY)  ## the pages and pictures made from the code and the committed runs: docs/, the map in notebook 00
	$(BIN)/python docs/write_api.py
	$(BIN)/python docs/draw_architecture.py
	$(BIN)/python -m kdnb.report.course
	$(BIN)/python docs/draw_results.py
	$(BIN)/python docs/draw_explorer.py
	$(BIN)/python docs/write_reliability.py

screens: $(READY)  ## docs/screens/: four pictures taken with Debian's Chromium, some minutes
	$(BIN)/python docs/draw_screens.py

report: $(READY)  ## the report of the stored runs: outputs/site/ and outputs/report.html
	$(BIN)/kdnb report --profile $(PROFILE)

slides: $(READY)  ## three decks with speaker notes and their handouts, from executed notebooks: outputs/slides/
	$(BIN)/python -m kdnb.report.slides $(DECKS)

reference: $(READY)  ## hours: the committed reference runs of profile cpu; goes on where it was stopped
	for task in rt mrpc headline passage relation; do \
	  KDNB_OUTPUTS=outputs/reference $(BIN)/kdnb compare $$task --profile cpu --seeds $$([ $$task = rt ] && echo 0,1,2,3,4 || echo 0,1,2) || exit; \
	done
	for grid in temperature ladder deviations switching; do KDNB_OUTPUTS=outputs/reference $(BIN)/kdnb sweep $$grid --task rt --profile cpu || exit; done
	for grid in deviations switching; do KDNB_OUTPUTS=outputs/reference $(BIN)/kdnb sweep $$grid --task digits --profile cpu || exit; done
	KDNB_OUTPUTS=outputs/reference $(BIN)/kdnb sweep temperature --task rt --profile cpu --arms ls_small
	KDNB_OUTPUTS=outputs/reference $(BIN)/kdnb sweep temperature --task rt --profile cpu --arms kd_self --only tau2_scaling=true
	KDNB_OUTPUTS=outputs/reference $(BIN)/kdnb sweep temperature --task rt --profile cpu --arms kd_reverse --only tau2_scaling=true --only alpha=1
	KDNB_OUTPUTS=outputs/reference $(BIN)/kdnb sweep search --task rt --profile cpu --seeds 0,1,2,3,4
	KDNB_OUTPUTS=outputs/reference $(BIN)/kdnb sweep search --task rt --profile cpu --seeds 0,1,2,3,4 --arms ls_small,kd_self,kd_reverse
	for task in rt headline section digits; do for grid in seeds softness dose placebo; do \
	  KDNB_OUTPUTS=outputs/reference $(BIN)/kdnb sweep $$grid --task $$task --profile cpu --seeds 10,11,12,13,14,15,16,17 || exit; \
	done; done
	KDNB_OUTPUTS=outputs/reference $(BIN)/kdnb sweep seeds --task relation --profile cpu --seeds 10,11,12,13,14,15,16,17
	KDNB_OUTPUTS=outputs/reference $(BIN)/kdnb sweep seeds --task mrpc --profile cpu --seeds 10,11,12,13
	KDNB_OUTPUTS=outputs/reference $(BIN)/kdnb sweep softness --task digits@0.2,digits@0.4,rt@0.2,rt@0.4 --profile cpu --seeds 10,11,12,13,14
	KDNB_OUTPUTS=outputs/reference $(BIN)/kdnb sweep budgets --task rt,headline,section,digits --profile cpu --seeds 10,11,12,13,14
	for task in mrpc rt; do KDNB_OUTPUTS=outputs/reference $(BIN)/kdnb compare $$task --profile base --seeds 0,1,2 || exit; done
	KDNB_OUTPUTS=outputs/reference $(BIN)/kdnb sweep generations --task digits --profile cpu
	KDNB_OUTPUTS=outputs/reference $(BIN)/python -m kdnb.studies.dark_knowledge.reference
	KDNB_OUTPUTS=outputs/reference $(BIN)/kdnb simulate

doctor: $(READY)  ## what this machine has
	$(BIN)/kdnb doctor

# What looks after the packages themselves has an environment of its own, so that it is no part of what it looks at.
TOOLS := .venv-tools/bin
$(TOOLS)/.ready: tools/requirements.txt
	$(PYTHON) -m venv .venv-tools
	@echo '*' > .venv-tools/.gitignore
	$(TOOLS)/python -m pip install --quiet --disable-pip-version-check --requirement tools/requirements.txt
	@touch $@

lock: $(TOOLS)/.ready  ## requirements.lock and requirements-torch.lock: every package with its hashes
	PATH="$(CURDIR)/$(TOOLS):$$PATH" $(TOOLS)/python tools/lock.py

licences: $(READY)  ## docs/licences.md: the licence of every dependency, or what stands in the way
	$(BIN)/python tools/licences.py

sbom: $(TOOLS)/.ready $(READY)  ## outputs/sbom.cdx.json: what is installed in .venv, as CycloneDX
	@mkdir -p outputs
	$(TOOLS)/cyclonedx-py environment --output-reproducible --output-format JSON --output-file outputs/sbom.cdx.json $(BIN)/python

audit: $(TOOLS)/.ready  ## known vulnerabilities of the locked packages; AUDIT=--if-reachable where there is no network
	@$(TOOLS)/python tools/audit.py $(AUDIT)

MUTANTS ?= 200
mutants: $(TOOLS)/.ready $(READY)  ## docs/mutants.json: which of so many changes of kdnb/core its quick tests notice; an hour
	$(BIN)/python -m kdnb.data.assets
	$(TOOLS)/python tools/mutants.py $(MUTANTS)

archive: $(READY) $(TOOLS)/.ready  ## outputs/archive/: the committed runs as Parquet with a Croissant description, validated
	$(BIN)/kdnb runs table outputs/archive/runs.parquet --committed
	@$(TOOLS)/python -c 'import mlcroissant' 2>/dev/null || $(TOOLS)/python -m pip install --quiet --disable-pip-version-check mlcroissant==1.1.1
	$(TOOLS)/mlcroissant validate --jsonld outputs/archive/runs.croissant.json

clean:  ## executed notebooks, figures, report and caches; runs and data stay
	rm -rf outputs/executed outputs/figures outputs/slides outputs/site outputs/report.html mutants .pytest_cache .ruff_cache .mypy_cache .hypothesis build *.egg-info
	find kdnb tests notebooks -name __pycache__ -o -name .ipynb_checkpoints | xargs rm -rf

clean-all: clean  ## runs, fetched data and the environment as well
	rm -rf outputs/runs outputs/damaged data_cache/assets data_cache/built data_cache/hub .venv .venv-bench .venv-tools
