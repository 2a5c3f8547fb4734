"""What a node imports before its first prediction, in a process of its own: what is left out, and what comes back."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.fixtures.tiny_checkpoint import save_tiny_checkpoint

SCRIPT = """
import importlib, sys
import torch
from egowm_nodes.prediction.quick_start import NOT_FOR_PREDICTION, lean_import, lean_imports

own = torch.compiler.disable
insisting = lean_import("insisting")
assert insisting.kurtosis and "scipy.stats" in sys.modules
for name in [name for name in sys.modules if name.partition(".")[0] == "scipy"]:
    del sys.modules[name]

load_world_model = lean_import("egowm_core.loading").load_world_model
model = load_world_model(sys.argv[1])
import numpy as np
camera = model.embodiment.camera()
context = np.zeros((1, 1, camera.height, camera.width, 3), np.uint8)
images = model.predict(context, np.zeros((1, 4, 3), np.float32)).images
assert images.shape == (1, 4, camera.height, camera.width, 3)
heavy = [name for name in NOT_FOR_PREDICTION if name in sys.modules]
assert not heavy, heavy  # neither for loading nor for predicting

assert torch.compiler.disable is own
importlib.import_module("scipy.stats")
doubled = torch.compile(lambda x: 2 * x, backend="eager")
assert doubled(torch.ones(2)).tolist() == [2, 2] and "torch._dynamo" in sys.modules
"""


def test_a_prediction_takes_nothing_heavy_and_all_of_it_can_be_had_afterwards(tmp_path: Path) -> None:
    checkpoint = save_tiny_checkpoint(tmp_path / "tiny", horizon=4)
    (tmp_path / "insisting.py").write_text("from scipy.stats import kurtosis\n")
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n{SCRIPT}", str(checkpoint)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
