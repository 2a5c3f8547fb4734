"""Which structures are left out, and why: a camera that drives forward past layers of texture at known depths."""

import cv2
import numpy as np
import pytest

from egowm_core.errors import ScoreError
from egowm_core.scs import Excluded, LucasKanadePoints, PassiveConfig, Reason, select_passive, track_and_score
from egowm_core.scs.passive import corner_points
from egowm_core.scs.scene_motion import disagreement
from tests.core.simulated import simulated_clips

H, W, T = 96, 128, 6
# name: top, left, height, width, zoom a frame (nearness), px a frame that it walks to the right
LAYERS = {
    "shelf": (18, 12, 26, 22, 1.03, 0),
    "chair": (52, 84, 24, 26, 1.07, 0),
    "box": (14, 92, 20, 20, 1.05, 0),
    "walker": (40, 30, 34, 14, 1.03, 3.5),
}


def texture(height, width, rng):
    image = np.zeros((height, width, 3), np.float32)
    for sigma in (1.2, 4):
        noise = cv2.GaussianBlur(rng.normal(size=image.shape).astype(np.float32), (0, 0), sigma)
        image += 28 * noise / noise.std()
    return np.clip(image + rng.integers(90, 170, 3), 0, 255).astype(np.uint8)


def drive(*, forward=True, walking=True, seed=0, plain=False):
    """Images (T+1,H,W,3) and the masks {name: (H,W)} of the first: wall, three things at three depths, and a walker."""
    rng = np.random.default_rng(seed)
    wall = texture(2 * H, 2 * W, rng)
    if plain:
        wall[H // 2 + 56 : H // 2 + 84, W // 2 + 50 : W // 2 + 76] = 120  # a patch without texture
    things = {name: texture(layer[2], layer[3], rng) for name, layer in LAYERS.items()}
    bumper = texture(14, 40, rng)
    images, masks = [], {}
    centre = np.asarray([W / 2 - 0.5, H / 2 - 0.5])
    for t in range(T + 1):

        def put(picture, thing, top, left, zoom, walk, t=t):
            zoom = zoom**t if forward else 1.0
            corner = centre + zoom * (np.asarray([left, top]) - centre) + [walk * t if walking else 0, 0]
            affine = np.asarray([[zoom, 0, corner[0]], [0, zoom, corner[1]]])
            cover = cv2.warpAffine(np.ones(thing.shape[:2], np.uint8), affine, (W, H), flags=cv2.INTER_NEAREST) > 0
            picture[cover] = cv2.warpAffine(thing, affine, (W, H), borderMode=cv2.BORDER_REPLICATE)[cover]
            return cover

        picture = np.zeros((H, W, 3), np.uint8)
        put(picture, wall, -H / 2, -W / 2, 1.02, 0)
        for name, (top, left, _, _, zoom, walk) in LAYERS.items():
            cover = put(picture, things[name], top, left, zoom, walk)
            if t == 0:
                masks[name] = cover
        picture[-14:, 44:84] = bumper  # fixed to the camera
        images.append(picture)
    masks["bumper"] = np.zeros((H, W), bool)
    masks["bumper"][-14:, 44:84] = True
    return np.stack(images), masks


def select(images, masks, **given):
    """{name: Excluded} of what was left out."""
    selection = select_passive(np.stack(list(masks.values())), images, config=PassiveConfig(**given))
    names = list(masks)
    assert [names[n] for n in selection.indices] == [
        n for n in names if n not in {names[e.index] for e in selection.excluded}
    ]
    assert np.array_equal(selection.kept, np.stack(list(masks.values()))[list(selection.indices)])
    return {names[excluded.index]: excluded for excluded in selection.excluded}


@pytest.mark.parametrize("seed", range(4))
def test_things_at_any_depth_stay_and_the_walker_and_the_own_body_go(seed):
    images, masks = drive(seed=seed)
    found = select(images, masks)
    assert {name: excluded.reason for name, excluded in found.items()} == {
        "walker": Reason.MOVING,
        "bumper": Reason.OWN_BODY,
    }
    assert found["walker"].value > found["walker"].limit and found["bumper"].value < 0.05


def test_a_walker_who_stands_is_furniture():
    assert set(select(*drive(walking=False))) == {"bumper"}


def test_a_camera_that_stands_sees_the_walker_alone():
    images, masks = drive(forward=False)
    assert {name: e.reason for name, e in select(images, masks).items()} == {"walker": Reason.MOVING}
    still = np.repeat(images[:1], T + 1, axis=0)
    assert select(still, masks) == {}  # nothing moves: nothing can be said against any


def test_parallax_alone_is_no_motion_as_it_would_be_to_a_homography():
    images, masks = drive(walking=False)
    points = corner_points(images[0])
    tracks = LucasKanadePoints().track(points, images)
    owners = np.where(masks["chair"][points[:, 1].astype(int), points[:, 0].astype(int)], 0, -1)
    assert disagreement(points, tracks, owners, 1, height=H).residual_px[0] < 0.3
    seen = tracks.visible[:, 2]
    before, after, own = points[seen], tracks.positions[seen, 2], owners[seen] == 0
    homography, _ = cv2.findHomography(before[~own], after[~own], cv2.RANSAC, 1.5)
    moved = cv2.perspectiveTransform(before[own][:, None], homography)[:, 0]
    assert np.median(np.linalg.norm(moved - after[own], axis=1)) > 1.5


def test_shape_texture_and_a_known_body():
    images, masks = drive(plain=True)
    y, x = np.mgrid[:H, :W]
    masks = {
        "chair": masks["chair"],
        "speck": (y < 45) & (y > 40) & (x > 60) & (x < 68),
        "wall": y < 60,
        "edge": (x < 5) & (y > 20) & (y < 60),
        "plain": (y >= 58) & (y < 82) & (x >= 52) & (x < 74),
        "box": masks["box"],
    }
    body = np.zeros((H, W), bool)
    body[10:30, 90:128] = True
    assert {name: e.reason for name, e in select(images, masks, own_body=body).items()} == {
        "speck": Reason.TOO_SMALL,
        "wall": Reason.TOO_LARGE,
        "edge": Reason.BORDER,
        "plain": Reason.UNTRACKABLE,
        "box": Reason.OWN_BODY,
    }


def test_it_repeats_whatever_was_drawn_before():
    images, masks = drive(seed=3)
    one = select(images, masks)
    cv2.setRNGSeed(99)
    assert select(images, masks) == one


def test_the_score_leaves_them_out_and_says_so():
    images, masks = drive()
    structures = np.stack(list(masks.values()))
    given = {"context": images[0], "structures": structures, "horizons": [T]}
    everything = track_and_score(images[1:], images[1:], **given)
    assert everything.excluded == () and len(everything.structures) == 5
    result = track_and_score(images[1:], images[1:], passive=True, **given)
    assert [e.index for e in result.excluded] == [3, 4] and result.scores.num_structures[T] == 3
    assert np.array_equal(result.structures, structures[:3]) and result.scores.scs[T] == 100
    truth = np.repeat(structures[:, None], T, axis=1)
    assert np.array_equal(
        track_and_score(images[1:], images[1:], passive=True, observed_masks=truth, **given).observed, truth[:3]
    )
    rubbish = np.random.default_rng(0).integers(0, 255, images[1:].shape).astype(np.uint8)
    assert track_and_score(rubbish, images[1:], passive=True, **given).excluded == result.excluded
    none = track_and_score(images[1:], images[1:], passive=PassiveConfig(min_area=0.29), **given)
    assert len(none.structures) == 0 and np.isnan(none.scores.scs[T]) and len(none.excluded) == 5


def test_reasons_read_as_words():
    text = str(Excluded(2, Reason.MOVING, 1.234, 0.6, "px off the rigid scene"))
    assert text == "structure 2: moves by itself (1.23, limit 0.6 px off the rigid scene)"


def test_no_structures_and_what_does_not_fit():
    images, masks = drive()
    selection = select_passive(np.zeros((0, H, W), bool), images)
    assert selection.kept.shape == (0, H, W) and selection.excluded == ()
    black = np.zeros_like(images)
    assert {e.reason for e in select(black, {"chair": masks["chair"]}).values()} == {Reason.UNTRACKABLE}
    with pytest.raises(ScoreError, match="48x64"):
        select(images, masks, own_body=np.zeros((48, 64), bool))
    with pytest.raises(ScoreError, match="own_body is"):
        PassiveConfig(own_body=np.zeros((H, W)))
    with pytest.raises(ScoreError, match="shares"):
        PassiveConfig(max_border=1.5)


def test_simulated_furniture_stays_and_people_go():
    furniture = people = moving = kept_people = 0
    for clip in simulated_clips(range(9300, 9304), clips=3, people=2):
        selection = select_passive(clip.masks, clip.images)
        for n in range(len(clip.masks)):
            if clip.static[n]:
                furniture += 1
                moving += any(e.index == n and e.reason is Reason.MOVING for e in selection.excluded)
            else:
                people += 1
                kept_people += n in selection.indices
    assert people >= 8 and kept_people <= 0.2 * people
    assert furniture >= 20 and moving <= 0.15 * furniture
