# `make demo` and `make test` install what they need first; a second run finds it and is quick.
PYTHON ?= python3
BIN := .venv/bin
DEMO := $(CURDIR)/demo
DEMO_MOUNT := $(BIN)/objfs mount file://$(DEMO)/objects $(DEMO)/mnt --cache-dir $(DEMO)/cache --log-file $(DEMO)/objfs.log

.PHONY: help demo demo-stop test sim check format bench soak clean man release-check test-systemd install-systemd

help:
	@echo "make demo       mount an embedded store at demo/mnt, to play with"
	@echo "make demo-stop  upload what waits, unmount it"
	@echo "make test       all tests, with real mounts"
	@echo "make sim        simulated crashes and faults, SEEDS=1000"
	@echo "make test-systemd  the service under a booted systemd, in a container (root)"
	@echo "make install-systemd  units, and mount.objfs for fstab (root)"
	@echo "make man        the manual page, at build/man/objfs.1"
	@echo "make release-check  build sdist and wheel, and try them in clean environments"
	@echo "make check      formatting, linters, types, layers"
	@echo "make bench      speed beside other file systems"
	@echo "make soak       long tests"

.make/run: pyproject.toml .ci/install
	@PYTHON=$(PYTHON) .ci/install run

.make/test: pyproject.toml .ci/install
	@PYTHON=$(PYTHON) .ci/install test

.make/check: pyproject.toml .ci/install
	@PYTHON=$(PYTHON) .ci/install check

demo: .make/run
	@mkdir -p $(DEMO)/objects $(DEMO)/mnt
	@$(BIN)/objfs status $(DEMO)/mnt >/dev/null 2>&1 || $(DEMO_MOUNT)
	@echo "mounted at    demo/mnt       (try: cp README.md demo/mnt/ && ls -l demo/mnt demo/objects)"
	@echo "objects in    demo/objects   (each file is one plain object; how it stands: $(BIN)/objfs status)"
	@echo "log in        demo/objfs.log (make demo-stop uploads what waits and unmounts)"

demo-stop: .make/run
	@$(BIN)/objfs umount $(DEMO)/mnt

WORKERS ?= 3
test: .make/test
	@$(BIN)/python -m pytest tests -n $(WORKERS) --dist loadfile $(ARGS)

test-systemd: .make/test
	@.ci/install systemd
	@OBJFS_TEST_SYSTEMD=1 $(BIN)/python -m pytest tests/systemd $(ARGS)

install-systemd: .make/run
	@systemd/install $(CURDIR)/$(BIN)/objfs

man: .make/run
	@mkdir -p build/man
	@$(BIN)/python -m objfs.cli.manual >build/man/objfs.1
	@echo "man -l build/man/objfs.1"

release-check: .make/check
	@.ci/install systemd
	@OBJFS_TEST_RELEASE=1 $(BIN)/python -m pytest tests/packaging $(ARGS)

check: .make/check
	@$(BIN)/ruff format --check objfs cache tests
	@$(BIN)/ruff check objfs cache tests
	@$(BIN)/mypy
	@$(BIN)/basedpyright --pythonpath $(BIN)/python
	@$(BIN)/lint-imports

format: .make/check
	@$(BIN)/ruff format objfs cache tests
	@$(BIN)/ruff check --fix objfs cache tests

SEEDS ?= 1000
sim: .make/test
	@$(BIN)/python -m tests.sim --seeds $(SEEDS) $(ARGS)

bench: .make/check
	@$(BIN)/python -m tests.bench $(ARGS)

soak: .make/check
	@.ci/install systemd
	@OBJFS_SOAK=1 $(BIN)/python -m pytest tests $(ARGS)

clean:
	@! grep -qs ' $(DEMO)/mnt ' /proc/self/mounts || { echo "first: make demo-stop" >&2; exit 1; }
	@rm -rf .make .venv build dist demo .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	@find objfs cache tests -name __pycache__ -type d -prune -exec rm -rf {} +
