"""Videos and folders become clips; what does not fit is refused with the option that makes it."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from egowm_core.errors import DataError, ScoreError
from tests.training.score_fixtures import pan, write_pictures, write_video
from training.score.pairs import Notes, PairOptions, find_pairs, load_pair
from training.score.videos import read_video


def pair(tmp_path: Path, predicted: np.ndarray, observed: np.ndarray, **options):
    rates = options.pop("rates", (4.0, 4.0))
    paths = [write_video(tmp_path / f"{name}.mp4", frames, rate_hz=rate) for name, frames, rate in
             (("p", predicted, rates[0]), ("o", observed, rates[1]))]  # fmt: skip
    notes = Notes()
    return load_pair("clip", *paths, PairOptions(**options), notes), notes


def test_both_videos_begin_with_the_context(tmp_path: Path):
    frames = pan(9)
    clip, notes = pair(tmp_path, frames, frames)
    np.testing.assert_array_equal(clip.context, frames[0])
    np.testing.assert_array_equal(clip.observed, frames[1:])
    np.testing.assert_array_equal(clip.predicted["predicted"], frames[1:])
    assert clip.rate_hz == 4.0 and notes == Notes()


def test_only_as_many_frames_as_the_horizon_are_read(tmp_path: Path):
    frames = pan(9)
    clip, _ = pair(tmp_path, frames, frames, horizon=3)
    assert len(clip) == 3
    assert read_video(tmp_path / "p.mp4", limit=2).length == 9


def test_first_frames_that_differ_are_refused_naming_the_option(tmp_path: Path):
    frames = pan(9)
    with pytest.raises(ScoreError, match=r"first frames differ \(PSNR .*--context IMAGE"):
        pair(tmp_path, frames[4:], frames[:5])
    context = tmp_path / "context.png"
    cv2.imwrite(str(context), frames[0][..., ::-1])
    clip, _ = pair(tmp_path, frames[2:], frames[1:8], context=context)
    np.testing.assert_array_equal(clip.context, frames[0])
    assert len(clip) == 7


def test_lengths(tmp_path: Path):
    frames = pan(9)
    with pytest.raises(ScoreError, match="7 predicted frames against 9 observed ones; give --cut to judge the first 7"):
        pair(tmp_path, frames[:7], frames)
    clip, notes = pair(tmp_path, frames[:7], frames, cut=True)
    assert len(clip) == 6 and "(--cut)" in notes.warnings[0]
    with pytest.raises(ScoreError, match="none to judge"):
        pair(tmp_path, frames[:1], frames[:1])


def test_sizes(tmp_path: Path):
    small = np.stack([cv2.resize(frame, (64, 48), interpolation=cv2.INTER_AREA) for frame in pan(4)])
    with pytest.raises(ScoreError, match="48x64, observed ones 96x128; give --resize"):
        pair(tmp_path, small, pan(4))
    clip, notes = pair(tmp_path, small, pan(4), resize=True)
    assert clip.observed.shape == (3, 48, 64, 3) and "(--resize)" in notes.warnings[0]


def test_rates(tmp_path: Path):
    with pytest.raises(ScoreError, match=r"predicted at 4 frames a second, observed at 8.*--ignore-rate"):
        pair(tmp_path, pan(4), pan(4), rates=(4.0, 8.0))
    clip, _ = pair(tmp_path, pan(4), pan(4), rates=(4.0, 8.0), ignore_rate=True)
    assert len(clip) == 3


def test_pictures_are_in_the_order_of_their_numbers(tmp_path: Path):
    frames = pan(12)
    video = read_video(write_pictures(tmp_path / "pictures", frames))
    np.testing.assert_array_equal(video.images, frames)
    assert video.rate_hz is None and video.length == 12
    assert len(read_video(tmp_path / "pictures", limit=3).images) == 3


def test_pictures_of_several_sizes_are_no_video(tmp_path: Path):
    folder = write_pictures(tmp_path / "pictures", pan(2))
    cv2.imwrite(str(folder / "frame_9.png"), pan(1)[0][:50])
    with pytest.raises(DataError, match="50x128"):
        read_video(folder)


def test_folders_pair_by_name(tmp_path: Path):
    for side in ("p", "o"):
        for name in ("a", "b2", "b10"):
            write_video(tmp_path / side / f"{name}.mp4", pan(3))
        write_pictures(tmp_path / side / "c", pan(3))
    assert [name for name, _, _ in find_pairs(tmp_path / "p", tmp_path / "o")] == ["a", "b2", "b10", "c"]
    (tmp_path / "o" / "a.mp4").unlink()
    with pytest.raises(DataError, match="has no namesake of a;"):
        find_pairs(tmp_path / "p", tmp_path / "o")
    (tmp_path / "p" / "a.mp4").rename(tmp_path / "p" / "c.mp4")
    with pytest.raises(DataError, match="one name for two clips"):
        find_pairs(tmp_path / "p", tmp_path / "o")


def test_what_is_not_there_or_of_two_kinds_is_refused(tmp_path: Path):
    write_pictures(tmp_path / "pictures", pan(2))
    write_video(tmp_path / "videos" / "a.mp4", pan(2))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="does not exist"):
        find_pairs(tmp_path / "none", tmp_path / "pictures")
    with pytest.raises(DataError, match="two of one kind"):
        find_pairs(tmp_path / "pictures", tmp_path / "videos")
    with pytest.raises(DataError, match="hold no videos"):
        find_pairs(tmp_path / "empty", tmp_path / "empty")


def test_a_damaged_video_is_read_up_to_the_damage(tmp_path: Path):
    frames = pan(40)
    whole = write_video(tmp_path / "whole.mp4", frames, codec="h264")
    data = bytearray(whole.read_bytes())
    middle = data.index(b"mdat") + 4 + (len(data) - data.index(b"mdat")) // 2
    data[middle : middle + 300] = bytes(300)
    damaged = tmp_path / "damaged.mp4"
    damaged.write_bytes(data)
    video = read_video(damaged)
    assert 4 <= len(video.images) < 40 and video.damage
    np.testing.assert_array_equal(video.images, read_video(whole).images[: len(video.images)])
    assert not read_video(damaged, limit=4).damage
    notes = Notes()
    clip = load_pair("clip", damaged, whole, PairOptions(), notes)
    assert len(clip) == len(video.images) - 1 and "scored up to there" in notes.damage[0]


@pytest.mark.parametrize("content", [b"", b"no video at all", bytes(5000)])
def test_what_is_no_video_is_one_line(tmp_path: Path, content: bytes):
    path = tmp_path / "broken.mp4"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"broken\.mp4 cannot be read") as caught:
        read_video(path)
    assert "\n" not in str(caught.value)


def test_a_video_that_takes_too_much_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("training.score.videos.MAX_BYTES", 3 * pan(1).nbytes)
    path = write_video(tmp_path / "long.mp4", pan(6))
    with pytest.raises(DataError, match="GiB when decoded"):
        read_video(path)
    assert len(read_video(path, limit=3).images) == 3
