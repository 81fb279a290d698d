PY := .venv/bin/python
READY := .venv/.ready

# Small tensors and two test processes: more threads would only get in each other's way.
export OMP_NUM_THREADS ?= 2

.PHONY: demo test lint bench docs clean

demo: $(READY)  ## Make the digit scenes, train, evaluate, draw the curve and the predictions
	$(PY) tools/demo.py

test: export OMP_NUM_THREADS = 1
test: $(READY)  ## Run the tests; PYTEST_ARGS adds options
	$(PY) -m pytest -q -n 2 --durations=10 $(PYTEST_ARGS)

lint: $(READY)  ## Style and types
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

bench: $(READY)  ## Measure the losses beside other libraries' (half an hour), write docs/benchmark.md
	$(PY) tools/benchmark/losses.py --out work_dirs/benchmark
	$(PY) tools/benchmark/losses.py --out work_dirs/benchmark --report docs/benchmark.md

docs: $(READY)  ## Write every generated page: gallery, heads, README's table, benchmark
	$(PY) tools/docs/write_pages.py
	$(PY) tools/benchmark/losses.py --report docs/benchmark.md

clean:  ## Remove what was built or cached; data, trained models and environments stay
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find mmfocalx benchmark configs tools tests -name __pycache__ -prune -exec rm -rf {} +

# Made last, so that an interrupted set-up is taken up again.
$(READY): setup.py mmfocalx/compat.py tools/make_env.sh tests/peers.txt
	tools/make_env.sh fork .venv
	$(PY) -m pip install --quiet --disable-pip-version-check --no-deps -r tests/peers.txt
	touch $@
