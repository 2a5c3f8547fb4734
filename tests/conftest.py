"""How tests are shared out where several processes run them (pytest-xdist with ``--dist loadgroup``).

Tests that start nodes go to one process, one after another: two such systems on two cores would wait for each other.
All others go by file, so that what a file makes once is made once.
"""

from __future__ import annotations

from pathlib import Path

import pytest

HERE = Path(__file__).parent
WITH_NODES = ("nodes", "launch", "sim/test_node.py", "sim/test_humanoid_node.py", "sim/test_fault_desk.py")


@pytest.hookimpl(tryfirst=True)  # before xdist looks for the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        place = item.path.relative_to(HERE).as_posix()
        item.add_marker(pytest.mark.xdist_group("nodes" if place.startswith(WITH_NODES) else place))
    # the long row of tests with nodes first: what is begun last is waited for
    items.sort(key=lambda item: not item.path.relative_to(HERE).as_posix().startswith(WITH_NODES))
