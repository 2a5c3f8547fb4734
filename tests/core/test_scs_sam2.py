"""SAM 2 as a tracker: real classes of transformers, tiny and random, saved and loaded as a checkpoint is."""

import json

import numpy as np
import pytest

from egowm_core.errors import ScoreError
from egowm_core.scs import DenseFlowTracker, Tracker, score, tracker_for
from egowm_core.scs.sam2 import Sam2Tracker, prepare
from egowm_core.scs.sam2_pictures import Sam2Pictures, sam2_proposals

transformers = pytest.importorskip("transformers")
torch = pytest.importorskip("torch")

SIDE = 64


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """A checkpoint of one million random weights that believes every object to be there."""
    from transformers import Sam2VideoConfig, Sam2VideoModel
    from transformers.models.sam2.configuration_sam2 import Sam2HieraDetConfig, Sam2VisionConfig

    backbone = Sam2HieraDetConfig(
        hidden_size=8,
        image_size=[SIDE, SIDE],
        blocks_per_stage=[1, 1, 2, 1],
        embed_dim_per_stage=[8, 16, 32, 64],
        num_attention_heads_per_stage=[1, 1, 2, 2],
        window_size_per_stage=[4, 2, 2, 2],
        global_attention_blocks=[3],
        window_positional_embedding_background_size=[2, 2],
    )
    vision = Sam2VisionConfig(
        backbone_config=backbone,
        backbone_channel_list=[64, 32, 16, 8],
        fpn_hidden_size=128,
        backbone_feature_sizes=[[SIDE // s, SIDE // s] for s in (4, 8, 16)],
    )
    config = Sam2VideoConfig(
        vision_config=vision.to_dict(),
        prompt_encoder_config={"hidden_size": 128, "image_size": SIDE},
        mask_decoder_config={"hidden_size": 128, "mlp_dim": 32, "num_attention_heads": 2, "iou_head_hidden_dim": 32},
        image_size=SIDE,
        memory_attention_hidden_size=128,
        memory_attention_num_layers=1,
        memory_attention_feed_forward_hidden_size=32,
        memory_attention_rope_feat_sizes=[SIDE // 16, SIDE // 16],
        memory_encoder_hidden_size=128,
        mask_downsampler_embed_dim=128,
        memory_fuser_embed_dim=128,
        memory_fuser_intermediate_dim=32,
    )
    torch.manual_seed(3)
    model = Sam2VideoModel(config).eval()
    with torch.no_grad():
        model.mask_decoder.pred_obj_score_head.proj_out.bias.fill_(10.0)
        model.mask_decoder.pred_obj_score_head.proj_out.weight.zero_()
    path = tmp_path_factory.mktemp("sam2") / "tiny"
    model.save_pretrained(path)
    (path / "preprocessor_config.json").write_text(json.dumps({"image_mean": [0.4, 0.5, 0.6], "image_std": [0.2] * 3}))
    return path


def video(length=5):
    rng = np.random.default_rng(0)
    wide = rng.integers(0, 256, (12, 40, 3)).astype(np.uint8).repeat(8, axis=0).repeat(8, axis=1)
    images = np.stack([wide[:, 4 * t : 4 * t + 128] for t in range(length)])
    masks = np.zeros((3, 96, 128), bool)
    masks[0, 20:50, 30:60] = True
    masks[2, 50:90, 70:110] = True  # the second stays empty
    return images, masks


def reference(directory, images, masks):
    """The same by the library's own loop over a whole video in memory."""
    from transformers import Sam2VideoModel
    from transformers.models.sam2_video.modeling_sam2_video import Sam2VideoInferenceSession

    model = Sam2VideoModel.from_pretrained(directory, local_files_only=True).eval()
    frames = torch.cat([prepare(image, SIDE, (0.4, 0.5, 0.6), (0.2, 0.2, 0.2)) for image in images])
    session = Sam2VideoInferenceSession(video=frames, dtype=torch.float32)
    for n, mask in enumerate(masks):
        whole = torch.from_numpy(mask.astype(np.float32))[None, None]
        square = torch.nn.functional.interpolate(whole, size=(SIDE, SIDE), mode="bilinear", antialias=True)
        session.add_mask_inputs(session.obj_id_to_idx(n), 0, (square >= 0.5).float())
    session.obj_with_new_inputs = list(range(len(masks)))
    out = []
    for found in model.propagate_in_video_iterator(session, start_frame_idx=0):
        logits = torch.nn.functional.interpolate(found.pred_masks, size=images.shape[1:3], mode="bilinear")
        out.append((logits[:, 0] > 0).numpy())
    return np.stack(out, axis=1)


def test_masks_are_followed_as_the_library_itself_does(directory):
    images, masks = video(length=24)  # longer than the model's memory: what is forgotten is not missed
    tracker = Sam2Tracker(directory)
    assert isinstance(tracker, Tracker)
    tracked = tracker.track(masks, images)
    assert tracked.shape == (3, 23, 96, 128) and tracked.dtype == np.bool_
    expected = reference(directory, images, masks[[0, 2]])
    assert 0.01 < expected.mean() < 0.99  # something, and not everything
    assert np.array_equal(tracked[[0, 2]], expected[:, 1:])
    assert not tracked[1].any()
    assert np.array_equal(tracked, tracker.track(masks, images))


def test_the_mask_given_and_the_picture_matter(directory):
    images, masks = video()
    tracker = Sam2Tracker(directory)
    tracked = tracker.track(masks, images)
    assert not np.array_equal(tracked[0], tracked[2])
    assert not np.array_equal(tracked[0], tracker.track(masks, images[:, :, ::-1])[0])
    assert tracker.track(masks[:0], images).shape == (0, 4, 96, 128)


def test_clicked_points_are_prompts(directory):
    images, _ = video()
    tracker = Sam2Tracker(directory)
    clicks = [np.asarray([[40, 30]], np.float32), np.asarray([[80, 70], [90, 80]], np.float32)]
    followed = tracker.track_points(clicks, images)
    assert followed.shape == (2, 5, 96, 128)
    assert np.array_equal(followed[1:], tracker.track_points(clicks[1:], images))  # one does not sway the other
    assert not np.array_equal(followed[0], followed[1])
    with pytest.raises(ScoreError, match="structure 0 has a point outside"):
        tracker.track_points([np.asarray([[200, 3]], np.float32)], images)
    with pytest.raises(ScoreError, match="P >= 1"):
        tracker.track_points([np.zeros((0, 2), np.float32)], images)


def test_pictures_answer_one_mask_per_structure_clicked(directory):
    images, _ = video()
    pictures = Sam2Pictures(directory)
    clicks = [np.asarray([[40, 30]], np.float32), np.asarray([[80, 70], [90, 80]], np.float32)]
    masks = pictures.segment(images[0], clicks)
    assert masks.shape == (2, 96, 128) and masks.dtype == np.bool_
    alone = pictures.segment(images[0], clicks[:1])  # padding of the second's points changes nothing
    assert np.mean(masks[0] != alone[0]) < 0.01
    assert pictures.segment(images[0], []).shape == (0, 96, 128)


def test_proposals_are_disjoint_bounded_and_judged_by_the_model(directory):
    images, _ = video()
    pictures = Sam2Pictures(directory)
    assert sam2_proposals(images[0], pictures, min_iou=1.1).shape == (0, 96, 128)
    assert sam2_proposals(images[0], pictures, min_iou=-9, min_stability=1.1).shape == (0, 96, 128)
    found = sam2_proposals(
        images[0],
        pictures,
        points_per_side=6,
        min_iou=-9,
        min_stability=0,
        max_area=0.9,
        max_border=1,
        max_structures=3,
    )
    assert 1 <= len(found) <= 3 and found.sum(axis=0).max() == 1
    assert (found.mean(axis=(1, 2)) >= 0.012).all()


def test_it_is_a_tracker_for_the_score(directory):
    images, masks = video()
    tracker = tracker_for(f"sam2:{directory}")
    scores = score(images[1:], images[1:], context=images[0], structures=masks, tracker=tracker, horizons=[4])
    assert scores.scs[4] == 100.0


def test_preprocessing_is_the_directorys_own():
    image = np.full((8, 8, 3), 255, np.uint8)
    assert torch.allclose(prepare(image, 4, (0.5, 0.5, 0.5), (0.5, 0.25, 1.0))[0, :, 0, 0], torch.tensor([1.0, 2, 0.5]))


def test_what_cannot_be_loaded_is_named_in_one_line(directory, tmp_path):
    def message(path):
        with pytest.raises(ScoreError) as caught:
            Sam2Tracker(path)
        assert "\n" not in str(caught.value) and "sam2.1-hiera-tiny" in str(caught.value)
        return str(caught.value)

    assert str(tmp_path / "absent") in message(tmp_path / "absent")
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    assert "not in" in message(tmp_path)  # no weights
    weights = tmp_path / "model.safetensors"
    weights.write_bytes((directory / "model.safetensors").read_bytes())
    assert "'bert'" in message(tmp_path)
    (tmp_path / "config.json").write_text("{")
    assert "cannot be read" in message(tmp_path)
    (tmp_path / "config.json").write_text((directory / "config.json").read_text())
    weights.write_bytes(weights.read_bytes()[:1000])
    assert "cannot be loaded" in message(tmp_path)


def test_weights_that_are_missing_are_not_left_random(directory, tmp_path):
    from safetensors.torch import load_file, save_file

    weights = load_file(directory / "model.safetensors")
    del weights["memory_encoder.projection.weight"]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    (tmp_path / "config.json").write_text((directory / "config.json").read_text())
    with pytest.raises(ScoreError, match=r"lacks 1 weights.*memory_encoder\.projection\.weight"):
        Sam2Tracker(tmp_path)


def test_trackers_by_name():
    assert tracker_for("flow") == DenseFlowTracker()
    assert tracker_for("flow:fast") == DenseFlowTracker(preset="fast")
    for wrong in ("sam2", "sam2:", "optical", "flow:slow"):
        with pytest.raises(ScoreError, match="flow"):
            tracker_for(wrong)
