# Two commands do everything on a fresh machine: `make demo` and `make test`. Bare `make` lists all of them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

# Without byte code every process would pay five seconds more of imports.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo test lint docs lock readme fashion benchmarks gpu clean
help:  ## list the commands
	@sed -n 's/^\([a-z]*\):.*## */make \1|/p' $(firstword $(MAKEFILE_LIST)) | while IFS='|' read -r name text; do printf '%-16s %s\n' "$$name" "$$text"; done

# uv installs in a fraction of pip's time; plain pip follows where uv cannot reach the index that pip is configured for.
$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "convergent needs Python 3.11 or newer, this is %d.%d: name another one, as in make PYTHON=python3.12" % sys.version_info[:2])'
	@echo "Setting up $(VENV) (about 6 GB, most of it torch) ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv -c constraints.txt
	@$(BIN)/uv pip install --quiet --python $(BIN)/python -e '.[dev,language]' -c constraints.txt \
	  || $(BIN)/python -m pip install --disable-pip-version-check -e '.[dev,language]' -c constraints.txt
	@touch $@

demo: $(INSTALLED)  ## train four nets on real digits, align them with all but the slowest methods, name the report to open
	@$(BIN)/python src/train.py -m seed=0,1,2,3
	@$(BIN)/python src/align.py -m 'method=glob(*,exclude=[*_paper,hierarchical_*,sparse_path])' function=true hydra.launcher.n_jobs=2
	@$(BIN)/python src/align.py -m method=matching,semimatching,sparse,spectral,least_squares images=val hydra.launcher.n_jobs=2
	@$(BIN)/python src/report.py

test: $(INSTALLED)  ## all tests: no network, no GPU, no account
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

lint: $(INSTALLED)  ## style, types and spelling, as in CI
	@$(BIN)/pre-commit run --all-files

docs: $(INSTALLED)  ## build the documentation into outputs/docs, with its notebooks and gallery; a warning fails
	@$(BIN)/python -c 'import furo, myst_nb, sphinx_copybutton, sphinx_gallery' 2>/dev/null \
	  || $(BIN)/uv pip install --quiet --python $(BIN)/python -e '.[dev,docs,language]' -c constraints.txt \
	  || $(BIN)/python -m pip install --disable-pip-version-check -e '.[dev,docs,language]' -c constraints.txt
	@rm -rf docs/generated
	@$(BIN)/sphinx-build --fresh-env --fail-on-warning --keep-going --quiet docs outputs/docs
	@echo "open outputs/docs/index.html"

lock:  ## pin every package of pyproject.toml in constraints.txt (pins only, no addresses)
	@$(BIN)/uv pip compile --universal --no-header --no-annotate --extra dev --extra docs --extra slurm --extra language pyproject.toml -o constraints.txt --upgrade --quiet

readme: demo  ## write the results and figures of the demo into README.md and docs/
	@$(BIN)/python src/align.py -m method=hierarchical_spectral,sparse_path function=true hydra.launcher.n_jobs=2
	@$(BIN)/python src/align.py -m method=sparse method.alpha=0.01,0.03,0.1,0.3 hydra.launcher.n_jobs=2
	@$(BIN)/python src/align.py method=matching pairs=all_layers
	@$(BIN)/python src/train.py -m experiment=dynamics seed=0,1,2,3
	@$(BIN)/python src/align.py experiment=dynamics
	@$(BIN)/python src/merge.py method=matching
	@$(BIN)/python src/report.py readme=true
	@$(BIN)/python tests/benchmarks/pictures.py
	@$(BIN)/python tests/benchmarks/run.py readme

FASHION ?= /usr/share/datasets/fashion-mnist
fashion: $(INSTALLED)  ## the same on Fashion-MNIST's 10,000 test images, with all methods, written into README.md and docs/
	@test -d "$(FASHION)" || { echo "make fashion needs Fashion-MNIST in $(FASHION): install Debian's package dataset-fashion-mnist, or name the files' folder, as in make fashion FASHION=FOLDER"; exit 1; }
	@$(BIN)/python src/train.py -m experiment=fashion "data.folder='$(FASHION)'" seed=0,1,2,3 hydra.launcher.n_jobs=2
	@$(BIN)/python src/align.py -m experiment=fashion "data.folder='$(FASHION)'" 'method=glob(*,exclude=[*_paper,hierarchical_*,sparse_path])' function=true hydra.launcher.n_jobs=2
	@$(BIN)/python src/align.py -m experiment=fashion "data.folder='$(FASHION)'" method=hierarchical_spectral,sparse_path hydra.launcher.n_jobs=2
	@$(BIN)/python src/report.py name=fashion readme=true

benchmarks: $(INSTALLED)  ## measure the statistics pass and what one would use instead: hours; tables go into docs/
	@$(BIN)/python tests/benchmarks/run.py

gpu: $(INSTALLED)  ## on a machine with a GPU its tests and benchmarks, whose tables go into docs/; elsewhere why not
	@$(BIN)/python -m pytest -m gpu -rs
	@$(BIN)/python tests/benchmarks/run.py gpu

clean:  ## remove the environment and everything generated
	@rm -rf $(VENV) outputs/* docs/generated .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist src/*.egg-info
