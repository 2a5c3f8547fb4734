#!/usr/bin/env bash
# Every check that a change must pass, in one place; CI runs this, too: scripts/check.sh [--no-tests] [PYTEST_OPTION...]
set -uo pipefail
cd "$(dirname "$0")/.." || exit 2
bin=${VIRTUAL_ENV_BIN:-.venv/bin}
if [ ! -x "$bin/python" ]; then
  echo "no $bin/python: run \`make venv\`, or name another environment's bin directory in VIRTUAL_ENV_BIN" >&2
  exit 2
fi
tests=yes
if [ "${1:-}" = "--no-tests" ]; then
  tests=no
  shift
fi

failed=()
check() {
  local name=$1 start=$SECONDS
  shift
  echo "== $name"
  "$@" || failed+=("$name")
  echo "-- $name: $((SECONDS - start)) s"
}

check "ruff check" "$bin/ruff" check .
check "ruff format" "$bin/ruff" format --check .
check "mypy" "$bin/mypy"
check "import-linter" "$bin/lint-imports"
if [ "$tests" = yes ]; then
  # Two processes, each file in one of them, of one compute thread each: the tests start nodes, which would otherwise
  # fight over the cores.
  check "pytest" "$bin/python" -m pytest -q -n 2 --dist loadfile --durations=15 "$@"
fi

if [ ${#failed[@]} -gt 0 ]; then
  echo "failed: ${failed[*]}" >&2
  exit 1
fi
echo "all checks passed"
