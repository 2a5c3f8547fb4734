"""Structures marked by hand: the file, the masks that it means, and the page that makes it."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest
from skimage import data

from egowm_core.errors import DataError, ScoreError
from tests.training.score_fixtures import pan, write_gray, write_video
from training.score.annotate import annotation_page, main
from training.score.annotation import (
    Annotation,
    Marked,
    annotation_masks,
    read_annotation,
    read_label_picture,
    read_mask,
    write_annotation,
)

GOOD = {
    "format": "egowm-structures",
    "version": 1,
    "height": 96,
    "width": 128,
    "structures": [
        {"name": "cup", "points": [[60.0, 40.0], [70, 44]]},
        {"name": "box", "polygon": [[10, 10], [29, 10], [29, 19], [10, 19]]},
    ],
}


def written(path: Path, **changes) -> Path:
    path.write_text(json.dumps({**GOOD, **changes}))
    return path


def test_a_file_goes_and_comes_back(tmp_path: Path):
    annotation = read_annotation(written(tmp_path / "a.json"))
    assert [marked.name for marked in annotation.structures] == ["cup", "box"]
    write_annotation(tmp_path / "b.json", annotation)
    again = read_annotation(tmp_path / "b.json")
    for one, other in zip(annotation.structures, again.structures, strict=True):
        np.testing.assert_array_equal(one.points, other.points)
        np.testing.assert_array_equal(one.polygon, other.polygon)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"format": "other"}, "not an annotation"),
        ({"version": 2}, "version 2"),
        ({"height": 0}, "height is 0"),
        ({"structures": []}, "mark one"),
        ({"structures": [7]}, "mapping"),
        ({"structures": [{"points": [[1, 1]]}]}, "name is None"),
        ({"structures": [{"name": "a"}]}, "exactly one of"),
        ({"structures": [{"name": "a", "points": [[1, 1]], "polygon": [[1, 1]]}]}, "exactly one of"),
        ({"structures": [{"name": "a", "point": [[1, 1]]}]}, "exactly one of"),
        ({"structures": [{"name": "a", "points": [[1]]}]}, "not a point"),
        ({"structures": [{"name": "a", "points": [[200, 1]]}]}, "inside the 96x128 frame"),
        ({"structures": [{"name": "a", "points": [[1, float("nan")]]}]}, "not a point"),
        ({"structures": [{"name": "a", "polygon": [[1, 1], [2, 2]]}]}, "at least 3 corners"),
        ({"structures": [{"name": "a", "mask": "../outside.png"}]}, "beside the annotation"),
        ({"structures": [{"name": "a", "mask": "/etc/passwd"}]}, "beside the annotation"),
        ({"structures": [{"name": "a", "points": [[1, 1]]}] * 2}, "two structures are called"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, changes, words):
    with pytest.raises(ScoreError, match=words):
        read_annotation(written(tmp_path / "a.json", **changes))


def test_no_json_is_told(tmp_path: Path):
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(DataError, match="cannot read"):
        read_annotation(tmp_path / "a.json")


def two_squares() -> np.ndarray:
    image = np.full((96, 128, 3), 60, np.uint8)
    image[20:50, 20:60] = (200, 40, 40)
    image[60:90, 70:110] = (40, 200, 40)
    return image


def test_points_become_the_regions_under_them():
    image = two_squares()
    annotation = Annotation(
        96, 128, (Marked("red", points=np.float32([[30, 30]])), Marked("green", points=np.float32([[80, 70]])))
    )
    masks, names = annotation_masks(annotation, image)
    assert names == ("red", "green")
    for mask, colour in zip(masks, ((200, 40, 40), (40, 200, 40)), strict=True):
        truth = (image == colour).all(axis=-1)
        assert (mask & truth).sum() / (mask | truth).sum() > 0.85


def test_a_point_on_a_wall_is_a_disc_around_it():
    masks, _ = annotation_masks(Annotation(96, 128, (Marked("wall", points=np.float32([[110, 20]])),)), two_squares())
    rows, columns = np.nonzero(masks[0])
    assert 0 < len(rows) < 100
    assert abs(rows.mean() - 20) < 1 and abs(columns.mean() - 110) < 1


def test_a_segmenter_has_the_points_in_pixels_of_the_frame():
    seen = {}

    def segmenter(image, points):
        seen["points"] = points
        return np.ones(image.shape[:2], np.bool_)

    large = cv2.resize(two_squares(), (256, 192))
    annotation = Annotation(96, 128, (Marked("red", points=np.float32([[30, 30]])),))
    masks, _ = annotation_masks(annotation, large, segmenter=segmenter)
    assert masks.all()
    np.testing.assert_allclose(seen["points"], [[60.5, 60.5]])


def test_outlines_scale_with_the_frame(tmp_path: Path):
    annotation = Annotation(96, 128, (Marked("box", polygon=np.float32([[10, 10], [29, 10], [29, 19], [10, 19]])),))
    masks, _ = annotation_masks(annotation, two_squares())
    expected = np.zeros((96, 128), np.bool_)
    expected[10:20, 10:30] = True
    np.testing.assert_array_equal(masks[0], expected)
    double, _ = annotation_masks(annotation, np.zeros((192, 256, 3), np.uint8))
    assert abs(double.sum() / masks.sum() / 4 - 1) < 0.1
    with pytest.raises(ScoreError, match="another aspect"):
        annotation_masks(annotation, np.zeros((96, 96, 3), np.uint8))


def test_mask_files_lie_beside_the_annotation(tmp_path: Path):
    mask = np.zeros((96, 128), np.uint8)
    mask[5:20, 5:40] = 255
    write_gray(tmp_path / "m.png", mask)
    path = written(tmp_path / "a.json", structures=[{"name": "m", "mask": "m.png"}])
    masks, _ = annotation_masks(read_annotation(path), two_squares())
    np.testing.assert_array_equal(masks[0], mask > 0)
    write_gray(tmp_path / "m.png", np.zeros_like(mask))
    with pytest.raises(ScoreError, match="'m' is empty"):
        annotation_masks(read_annotation(path), two_squares())
    (tmp_path / "m.png").write_bytes(b"text")
    with pytest.raises(ScoreError, match="not a picture"):
        annotation_masks(read_annotation(path), two_squares())


def test_label_pictures(tmp_path: Path):
    labels = np.zeros((96, 128), np.uint16)
    labels[10:30, 10:30], labels[50:70, 50:70] = 3, 700
    masks, names = read_label_picture(write_gray(tmp_path / "l.png", labels), 96, 128)
    assert names == ("3", "700")
    np.testing.assert_array_equal(masks[1], labels == 700)
    colour = np.dstack([labels, labels, labels * 2]).astype(np.uint8)
    with pytest.raises(ScoreError, match="colour"):
        read_label_picture(write_gray(tmp_path / "c.png", colour), 96, 128)
    with pytest.raises(ScoreError, match="marks 0"):
        read_label_picture(write_gray(tmp_path / "e.png", labels * 0), 96, 128)
    with pytest.raises(ScoreError, match="another aspect"):
        read_mask(tmp_path / "l.png", 96, 96)


def test_the_page_stands_alone_and_no_name_breaks_it(tmp_path: Path):
    hostile = '</script><img src=x onerror="alert(1)">'
    marked = Annotation(96, 128, (Marked(hostile, points=np.float32([[3, 4]])),))
    page = annotation_page(two_squares(), name=hostile, marked=marked)
    assert page.count("</script>") == 1 and "<img" not in page
    assert not re.search(r"(src|href)=[\"']?https?:", page)
    assert "default-src 'none'" in html.unescape(page)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    video = write_video(tmp_path / "drive.mp4", pan(5))
    assert main([str(video), str(tmp_path / "mark.html"), "--frame", "2"]) == 0
    assert "drive.json" in capsys.readouterr().out
    assert main([str(video), str(tmp_path / "mark.html"), "--frame", "9"]) == 1
    assert "has 5 frames" in capsys.readouterr().err
    assert main([str(video), str(tmp_path / "mark.json")]) == 2
    edit = written(tmp_path / "a.json")
    assert main([str(video), str(tmp_path / "mark.html"), "--edit", str(edit)]) == 0
    assert '"cup"' in (tmp_path / "mark.html").read_text()
    cv2.imwrite(str(tmp_path / "other.png"), data.astronaut())
    assert main([str(tmp_path / "other.png"), str(tmp_path / "mark.html"), "--edit", str(edit)]) == 1
    assert "96x128" in capsys.readouterr().err


_DRIVER = """
<script>
addEventListener("load", function () { setTimeout(function () {
  var canvas = document.getElementById("canvas"), box = canvas.getBoundingClientRect();
  function click(x, y) {
    canvas.dispatchEvent(new PointerEvent("pointerdown", {
      clientX: box.left + (x + 0.5) / 128 * box.width, clientY: box.top + (y + 0.5) / 96 * box.height }));
  }
  click(30, 40); click(33, 44); click(90, 90);
  document.getElementById("undo").click();
  document.getElementById("polygon").click(); document.getElementById("add").click();
  click(10, 10); click(29, 10); click(29, 19);
  var name = document.querySelectorAll("#list input")[1];
  name.value = "box"; name.dispatchEvent(new Event("change"));
  var text = null, make = URL.createObjectURL;
  URL.createObjectURL = function (blob) { text = blob; return make.call(URL, blob); };
  document.getElementById("save").click();
  text.text().then(function (found) {
    var out = document.createElement("pre"); out.id = "saved"; out.textContent = found; document.body.appendChild(out);
  });
}, 300); });
</script>
"""


@pytest.mark.skipif(shutil.which("chromium") is None, reason="no chromium to click in")
def test_clicks_in_a_browser_become_an_annotation(tmp_path: Path):
    page = annotation_page(two_squares(), name="drive")
    page = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page)  # for the script that clicks
    (tmp_path / "mark.html").write_text(page.replace("</body>", _DRIVER + "</body>"))
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    command += ["--virtual-time-budget=4000", "--dump-dom", (tmp_path / "mark.html").as_uri()]
    dom = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    found = re.search(r'<pre id="saved">(.*?)</pre>', dom, re.DOTALL)
    assert found is not None, dom[-2000:]
    (tmp_path / "drive.json").write_text(found.group(1))
    annotation = read_annotation(tmp_path / "drive.json")
    first, second = annotation.structures
    assert (annotation.height, annotation.width) == (96, 128)
    np.testing.assert_allclose(first.points, [[30, 40], [33, 44]], atol=0.6)
    assert second.name == "box"
    np.testing.assert_allclose(second.polygon, [[10, 10], [29, 10], [29, 19]], atol=0.6)
