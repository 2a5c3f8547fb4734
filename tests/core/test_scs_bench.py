"""The speed command: its video, its table, its refusals; never how fast."""

import json

import numpy as np
import pytest

from egowm_core.scs import DenseFlowTracker, masks_iou
from egowm_core.scs.bench import PRESETS, main, sliding_room


def test_the_room_slides_and_its_masks_fit():
    images, masks = sliding_room(96, 128, 4, 8)
    assert images.shape == (5, 96, 128, 3) and masks.shape == (8, 96, 128) and masks.sum(axis=0).max() == 1
    assert np.array_equal(images[1, :, :-1], images[0, :, 1:])
    tracked = DenseFlowTracker().track(masks, images)
    assert masks_iou(tracked[:, -1, :, :-4], masks[:, :, 4:]).min() > 0.85


def test_every_stage_has_a_row(tmp_path, capsys):
    out = tmp_path / "new" / "bench.json"
    command = ["--size", "48x64", "--frames", "2", "--structures", "3", "--passes", "1", "--json", str(out)]
    assert main(command) == 0
    figures = json.loads(out.read_text())
    assert figures["settings"] == {"height": 48, "width": 64, "frames": 2, "structures": 3, "passes": 1}
    rows = figures["rows"]
    assert {f"{stage} {preset}" for stage in ("score", "track") for preset in PRESETS} | {"propose", "passive"} <= set(
        rows
    )
    assert all(row["frames_per_s"]["2"] > 0 for row in rows.values())
    assert rows["score medium"]["share_of_medium"]["2"] == 1.0
    printed = capsys.readouterr().out
    assert all(f"| {name} |" in printed for name in rows)


@pytest.mark.parametrize("wrong", [["--size", "240"], ["--size", "8x8"], ["--frames", "0"], ["--structures", "99"]])
def test_wrong_use_exits_with_two(wrong):
    with pytest.raises(SystemExit) as caught:
        main(wrong)
    assert caught.value.code == 2


def test_a_file_that_cannot_be_written_is_one_line(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    command = ["--size", "32x32", "--frames", "1", "--structures", "1", "--passes", "1"]
    assert main([*command, "--json", str(tmp_path / "file" / "x.json")]) == 1
    assert capsys.readouterr().err.strip().splitlines()[-1].startswith("scs.bench: cannot write")
