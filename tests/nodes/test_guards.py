"""Actions and predictions that must not pass: what is refused, clipped, dropped, flagged, blurred, and how told."""

from __future__ import annotations

import threading
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from skimage import data

from egowm_core.embodiment import load_embodiment
from egowm_core.errors import ConfigError, EmbodimentError, NotFiniteError
from egowm_core.types import ActionSequence, Frames, Rollout
from egowm_nodes.guards.actions import ActionGuard, unit_guess
from egowm_nodes.guards.frames import FrameGuard
from egowm_nodes.prediction.predictor import Predictor, Request
from tests.fixtures.tiny_checkpoint import made_up_picture, save_tiny_checkpoint

BASE, HUMANOID = load_embodiment("base_3dof"), load_embodiment("humanoid_25dof")
PICTURE = made_up_picture(96, 128, seed=3)


def rows(value: float, column: int = 0, count: int = 4) -> np.ndarray:
    values = np.zeros((count, 3), np.float32)
    values[1:, column] = value
    return values


@pytest.mark.parametrize(
    ("value", "column", "words"),
    [
        (5.73, 2, "row 1.*5.73 rad is outside its limits -0.2..0.2; it looks like degrees.*divide by 57.3"),
        (0.72, 0, r"a rate in m/s \(deltas are per tick: divide by 4 Hz\) or a normalised value \(multiply by.*0.15"),
        (150.0, 0, "it looks like millimetres: give m per tick, divide by 1000"),
        (8.25, 1, "at 82.5 times the limit it looks like raw counts or values scaled twice"),
        (0.23, 2, "a rate in rad/s"),
        (np.nan, 1, "'dy' row 1: value nan m is not finite"),
        (-np.inf, 0, "not finite"),
    ],
)
def test_what_does_not_fit_is_refused_with_a_guess_at_the_unit(value, column, words):
    guard = ActionGuard(BASE)
    with pytest.raises(EmbodimentError, match=words):
        guard.check(rows(value, column))
    counts = guard.counts()
    assert (counts.checked, counts.refused, counts.clipped) == (1, 1, {})


def test_a_lively_plan_is_clipped_where_asked_for_and_the_channel_named():
    guard = ActionGuard(BASE, "clip")
    np.testing.assert_allclose(guard.check(rows(0.3))[:, 0], [0.0, 0.2, 0.2, 0.2])
    np.testing.assert_allclose(guard.check(rows(-0.15, 1))[:, 1], [0.0, -0.1, -0.1, -0.1])
    guard.check(rows(0.3), count=False)
    assert guard.counts().clipped == {"dx": 3, "dy": 3} and guard.counts().refused == 0
    for wrong in (rows(0.41), rows(np.nan)):  # over twice the limit the unit is in doubt: refused all the same
        with pytest.raises(EmbodimentError, match="dx"):
            guard.check(wrong)
    assert guard.counts().refused == 2
    guard.mode = "refuse"
    with pytest.raises(EmbodimentError, match="outside its limits"):
        guard.check(rows(0.3))


def test_rounding_is_no_violation_and_shapes_are_named():
    guard = ActionGuard(BASE)
    assert guard.check(np.full((3, 3), np.float32(0.1))).dtype == np.float32
    with pytest.raises(EmbodimentError, match=r"\(T,3\)"):
        guard.check(np.zeros((2, 4)))


def test_guesses_know_the_kind_of_a_channel():
    velocity = next(channel for channel in HUMANOID.channels if channel.name == "angular_velocity")
    assert "degrees" in unit_guess(45.0, velocity, 5.0)
    assert "per tick" not in unit_guess(3.0, velocity, 5.0) and "a rate" not in unit_guess(3.0, velocity, 5.0)


def rollout(images: np.ndarray, move: float = 0.1) -> Rollout:
    values = np.zeros((len(images), 3), np.float32)
    values[:, 0] = move
    stamps = 10**18 + 250_000_000 * np.arange(1, len(images) + 1)
    return Rollout(Frames(images, stamps), ActionSequence(values), 10**18, 1, 0)


def moving(count: int = 8) -> np.ndarray:
    return np.stack([np.roll(PICTURE, 2 * i, axis=1) for i in range(count)])


def test_good_predictions_pass_untouched():
    guard = FrameGuard(BASE.scales)
    given = rollout(moving())
    checked = guard.check(given, PICTURE)
    assert checked.fit and not checked.found and checked.rollout is given
    assert guard.counts().checked == 1 and guard.counts().dropped == 0


@pytest.mark.parametrize("mode", ["drop", "flag"])
def test_blank_frames_are_found_unless_the_camera_is_dark_itself(mode):
    guard = FrameGuard(BASE.scales, mode=mode)
    images = moving()
    images[5:] = 40
    checked = guard.check(rollout(images), PICTURE)
    assert checked.fit == (mode == "flag")
    assert "3 of 8 predicted frames are blank, the first is frame 6" in checked.found["blank"]
    dark = guard.check(rollout(images), np.full_like(PICTURE, 3))
    assert dark.fit and not dark.found
    counts = guard.counts()
    assert counts.found == {"blank": 1} and (counts.dropped, counts.flagged) == ((1, 0) if mode == "drop" else (0, 1))


def test_frames_that_stand_still_are_found_where_the_robot_moves():
    guard = FrameGuard(BASE.scales)
    still = np.repeat(PICTURE[None], 8, axis=0)
    still[3, 5, 5] ^= 1
    assert "all 8 predicted frames are the same" in guard.check(rollout(still), PICTURE).found["repeated"]
    assert guard.check(rollout(still, move=0.01), PICTURE).fit  # 8 cm: it may be so
    still[7, 20:23, 20:23] ^= 16
    assert guard.check(rollout(still), PICTURE).fit
    assert guard.check(rollout(PICTURE[None]), PICTURE).fit  # one frame repeats nothing


def test_faces_are_blurred_in_predictions_and_in_the_context_shown_with_them():
    face = cv2.resize(np.asarray(data.astronaut())[0:280, 80:360], (192, 192), interpolation=cv2.INTER_AREA)
    given = rollout(np.stack([face, np.roll(face, 4, axis=1)]))
    guard = FrameGuard(BASE.scales, face_detector="builtin")
    checked = guard.check(given, face)
    assert guard.blurs and guard.counts().faces >= 3
    assert np.any(checked.context != face) and np.any(checked.rollout.frames.images[1] != given.frames.images[1])
    np.testing.assert_array_equal(given.frames.images[0], face)  # what was given stays
    np.testing.assert_array_equal(checked.rollout.frames.stamps_ns, given.frames.stamps_ns)
    assert FrameGuard(BASE.scales).check(given, face).rollout is given


def test_an_absent_face_detector_is_refused_with_the_remedy(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"absent\.onnx is no file.*model zoo"):
        FrameGuard(BASE.scales, face_detector=str(tmp_path / "absent.onnx"))


def test_counts_are_whole_with_several_threads():
    actions, frames = ActionGuard(BASE, "clip"), FrameGuard(BASE.scales)

    def work() -> None:
        for _ in range(50):
            actions.check(rows(0.3))
            frames.not_finite()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert actions.counts().clipped == {"dx": 600} and frames.counts().found == {"not finite": 200}


@pytest.mark.parametrize("spoilt", ["latents", "frames"])
def test_predictions_that_are_not_finite_are_refused_by_the_predictor(tmp_path: Path, spoilt: str):
    predictor = Predictor(str(save_tiny_checkpoint(tmp_path / "tiny")))
    request = Request(Frames(PICTURE[None], np.array([10**18])), ActionSequence(np.zeros((8, 3), np.float32)))
    assert len(predictor.predict(request, num_denoising_steps=1).frames) == 8
    target = predictor.model.denoiser.unet.conv_out if spoilt == "latents" else predictor.model.vae.network.decoder
    with torch.no_grad():
        next(iter(target.parameters())).fill_(torch.nan)
    with pytest.raises(NotFiniteError, match=f"the predicted {spoilt} are not finite"):
        predictor.predict(request, num_denoising_steps=1)
