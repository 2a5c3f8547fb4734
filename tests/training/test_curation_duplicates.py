"""Copies of an episode are found, other episodes are not, and the order decides which one stays."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from egowm_core.errors import ConfigError, DataError
from training.curation.config import CurationConfig, load_curation
from training.curation.duplicates import DuplicateFilter
from training.curation.embedding import embed, load_encoder

STANDARD = load_curation("standard")
LIMIT = STANDARD.duplicate_similarity


def episode(seed: int, count: int = 12) -> np.ndarray:
    """A pan over blocks of colour; another place for every seed."""
    rng = np.random.default_rng(seed)
    canvas = cv2.resize(rng.integers(0, 256, (8, 24, 3), np.uint8), (480, 160), interpolation=cv2.INTER_CUBIC)
    return np.stack([canvas[20:116, 20 * i : 20 * i + 128] for i in range(count)])


def reencoded(frames: np.ndarray) -> np.ndarray:
    return np.stack(
        [cv2.imdecode(cv2.imencode(".jpg", f, [cv2.IMWRITE_JPEG_QUALITY, 40])[1], cv2.IMREAD_COLOR) for f in frames]
    )


def brightened(frames: np.ndarray) -> np.ndarray:
    return np.clip(frames * 1.1 + 8.0, 0, 255).astype(np.uint8)


def resized(frames: np.ndarray) -> np.ndarray:
    return np.stack([cv2.resize(f, (64, 48), interpolation=cv2.INTER_AREA) for f in frames])


def test_an_embedding_is_a_unit_vector_of_one_length():
    vectors = [embed(episode(seed, count)) for seed, count in ((0, 12), (1, 5), (2, 1), (3, 2))]
    assert len({v.shape for v in vectors}) == 1
    for vector in vectors:
        assert vector.dtype == np.float32
        assert np.linalg.norm(vector) == pytest.approx(1.0, abs=1e-5)
    np.testing.assert_array_equal(embed(episode(0)), embed(episode(0)))
    with pytest.raises(DataError, match="N at least 1"):
        embed(np.zeros((0, 96, 128, 3), np.uint8))


@pytest.mark.parametrize("copy", [reencoded, brightened, resized, lambda f: resized(reencoded(brightened(f)))])
@pytest.mark.parametrize("seed", range(4))
def test_a_copy_is_found(copy, seed):
    found = DuplicateFilter(STANDARD)
    assert found.add("first", embed(episode(seed))) is None
    duplicate = found.add("again", embed(copy(episode(seed))))
    assert duplicate is not None
    assert (duplicate.name, duplicate.of, duplicate.limit) == ("again", "first", LIMIT)
    assert LIMIT <= duplicate.similarity <= 1.0
    assert len(found) == 1


def test_other_episodes_are_kept():
    found = DuplicateFilter(STANDARD)
    assert [found.add(str(seed), embed(episode(seed))) for seed in range(30)] == [None] * 30


def test_the_same_drive_backwards_is_another_episode():
    found = DuplicateFilter(STANDARD)
    found.add("there", embed(episode(0)))
    assert found.add("back", embed(episode(0)[::-1])) is None


def test_flat_pictures_are_no_reason_to_fail():
    flat = np.full((5, 96, 128, 3), 128, np.uint8)
    assert np.isfinite(embed(flat)).all()


def test_actions_tell_apart_what_looks_alike():
    rng = np.random.default_rng(0)
    frames = episode(0)
    first, second = rng.normal(0, 0.3, (11, 26)).astype(np.float32), rng.normal(0, 0.3, (11, 26)).astype(np.float32)
    found = DuplicateFilter(STANDARD)
    assert found.add("a", embed(frames, first)) is None
    assert found.add("b", embed(frames, second)) is None
    assert found.add("c", embed(reencoded(frames), first)).of == "a"


def test_one_by_one_and_in_blocks_agree():
    rng = np.random.default_rng(1)
    vectors = rng.normal(size=(1300, 16)).astype(np.float32)
    for i in range(100, 1300, 7):
        vectors[i] = vectors[rng.integers(i)] + rng.normal(0, 0.01, 16)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    names = [f"e{i}" for i in range(len(vectors))]
    config = CurationConfig(duplicate_similarity=0.97)
    single, block = DuplicateFilter(config), DuplicateFilter(config)
    one = [single.add(name, vector) for name, vector in zip(names, vectors, strict=True)]
    many = block.add_many(names, vectors)
    assert [d and (d.name, d.of) for d in one] == [d and (d.name, d.of) for d in many]
    assert len(single) == len(block) == 1300 - sum(d is not None for d in one)
    assert sum(d is not None for d in one) >= 100
    order = {name: i for i, name in enumerate(names)}
    assert all(order[d.of] < order[d.name] for d in one if d is not None), "the first of its kind stays"


def test_turned_off_it_keeps_everything():
    found = DuplicateFilter(load_curation("none"))
    assert [found.add(str(i), embed(episode(0))) for i in range(3)] == [None] * 3


def test_embeddings_of_another_kind_are_refused():
    found = DuplicateFilter(STANDARD)
    found.add("a", embed(episode(0)))
    with pytest.raises(DataError, match="make all of them alike"):
        found.add("b", np.ones(3, np.float32))


def test_an_absent_encoder_is_named(tmp_path):
    with pytest.raises(ConfigError, match="not a directory"):
        load_encoder(tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="empty"):
        load_encoder(tmp_path / "empty")


def test_a_local_encoder_takes_the_place_of_the_features(tmp_path):
    transformers = pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    config = transformers.ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, image_size=32, patch_size=8
    )
    transformers.ViTModel(config).save_pretrained(tmp_path / "vit")
    transformers.ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(tmp_path / "vit")
    vector = embed(episode(0), encoder=load_encoder(tmp_path / "vit"))
    assert vector.shape == (5 * 16,)
    assert np.linalg.norm(vector) == pytest.approx(1.0, abs=1e-5)
