"""Damaged bags and bad messages: read as far as they go, and told in words that name the place."""

from __future__ import annotations

import numpy as np
import pytest
from rosbags.rosbag2 import StoragePlugin

from egowm_core.data.bag import Bag
from egowm_core.data.values import ODOMETRY, TWIST_TYPES
from egowm_core.errors import DataError
from tests.core.made_bags import (
    chunked,
    overwrite,
    second_chunk,
    serialized,
    storage,
    write_raw,
    xs_of,
)
from tests.training import bag_fixtures as bags

# Bad messages in a good bag


def bad_messages(bad: int, good: int) -> list[tuple[int, str, str, bytes]]:
    payload = serialized(bags.odometry(bags.START_NS, (1, 0, 0)))
    huge = payload[:12] + (0xFFFFFF00).to_bytes(4, "little") + payload[16:]  # a string of 4 GiB
    broken = [payload[:50], b"", huge, b"\x00\x01", serialized(bags.text("x")), payload + bytes(64)]
    rows = [(i, "/odom", ODOMETRY, broken[i % len(broken)]) for i in range(bad)]
    rows += [(bad + i, "/odom", ODOMETRY, payload) for i in range(good)]
    return [*rows, (99, "/cmd_vel", TWIST_TYPES[1], serialized(bags.twist((1, 0, 0))))]


@pytest.mark.parametrize("plugin", [StoragePlugin.MCAP, StoragePlugin.SQLITE3])
def test_bad_messages_are_skipped_counted_and_the_first_told(tmp_path, plugin):
    with Bag(write_raw(tmp_path / "bad", bad_messages(6, 6), plugin=plugin)) as bag:
        for _ in range(2):  # the counts are those of the last reading, not their sum
            assert [item.topic for item in bag.read(["/odom", "/cmd_vel"])] == ["/odom"] * 6 + ["/cmd_vel"]
            assert bag.skipped == {"/odom": 6, "/cmd_vel": 0}
        assert any("topic /odom message 3 at record time 0.000000002 s was skipped: " in note for note in bag.damage)


def test_a_topic_of_mostly_bad_messages_is_given_up_alone(tmp_path):
    with Bag(write_raw(tmp_path / "worse", bad_messages(7, 6))) as bag:
        with pytest.raises(DataError, match=r"worse, topic /odom message 7 .* 7 of its 13 messages.*record it again"):
            list(bag.read(["/odom"]))
        assert len(list(bag.read(["/cmd_vel"]))) == 1


# Damaged containers


@pytest.mark.parametrize("compress", [True, False])
def test_a_cut_mcap_is_read_up_to_the_cut(tmp_path, compress):
    path = storage(chunked(tmp_path / "run", compress=compress))
    overwrite(path, lambda data: data.__delitem__(slice(len(data) * 2 // 3, None)))
    xs, notes = xs_of(path)
    assert xs == list(range(len(xs))) and 160 <= len(xs) < 400  # whole messages of the cut chunk, too
    assert any("is cut short by the end of the file" in note and "byte " in note for note in notes)


def test_a_damaged_chunk_costs_only_itself(tmp_path):
    path = storage(chunked(tmp_path / "run"))

    def damage(data: bytearray) -> None:
        at = second_chunk(data) + 300
        data[at : at + 8] = bytes(8)

    overwrite(path, damage)
    xs, notes = xs_of(path)
    assert {*range(40), *range(80, 400)} <= set(xs) < {*range(400)}
    assert any(f"{400 - len(xs)} of 400 messages are missing" in note for note in notes)


@pytest.mark.parametrize("where", ["footer", "summary", "first byte"])
def test_an_mcap_without_its_index_is_read_all_the_same(tmp_path, where):
    path = storage(chunked(tmp_path / "run"))
    at = {"footer": slice(-30, -20), "summary": slice(-400, -200), "first byte": slice(0, 1)}[where]
    overwrite(path, lambda data: data.__setitem__(at, b"\xee" * len(data[at])))
    assert xs_of(path)[0] == list(range(400))


def test_record_times_may_run_backwards(tmp_path):
    path = chunked(tmp_path / "run", backwards=True)
    assert sorted(xs_of(path)[0]) == list(range(400))
    overwrite(storage(path), lambda data: data.__delitem__(slice(-100, None)))
    assert xs_of(path)[0] == list(range(400))  # without the index: in the order of the file


@pytest.mark.parametrize("claim", [2**32, 2**40, 2**63, 2**64 - 1])
@pytest.mark.parametrize("field", ["record", "unpacked", "packed"])
def test_a_flipped_length_allocates_nothing_and_ends_in_words(tmp_path, claim, field):
    path = storage(chunked(tmp_path / "run"))

    def damage(data: bytearray) -> None:
        chunk = second_chunk(data)
        at = chunk + {"record": 1, "unpacked": 25, "packed": 41}[field]
        data[at : at + 8] = claim.to_bytes(8, "little")
        del data[-60:]  # and no index to go by

    overwrite(path, damage)
    xs, notes = xs_of(path)
    assert xs == ([*range(80)] if field == "record" else [*range(40), *range(80, 400)])
    assert notes


def test_what_holds_nothing_is_refused_in_one_line(tmp_path):
    for name, content in [
        ("empty.mcap", b""),
        ("noise.mcap", bytes(range(256)) * 20),
        ("empty.db3", b""),
        ("noise.db3", bytes(range(256)) * 20),
        ("empty.bag", b""),
        ("noise.bag", bytes(range(256)) * 20),
        ("cut.bag", b"#ROSBAG V2.0\n"),
    ]:
        path = tmp_path / name
        path.write_bytes(content)
        words = rf"bag .*{name} cannot be read: .+; .*(restore|record it again)"
        with pytest.raises(DataError, match=words) as caught, Bag(path):
            pass
        assert "\n" not in str(caught.value)
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "metadata.yaml").write_text("")
    with pytest.raises(DataError, match="metadata"), Bag(folder):
        pass


def test_a_sqlite_bag_with_broken_pages_ends_in_words(tmp_path):
    path = storage(bags.drive(tmp_path / "run", seconds=20, storage="sqlite3"))

    def damage(data: bytearray) -> None:
        data[len(data) // 2 : len(data) // 2 + 3 * 4096] = b"\xff" * (3 * 4096)

    overwrite(path, damage)
    try:
        with Bag(path) as bag:
            items = list(bag.read(["/odom"]))
            assert len(items) <= 802
    except DataError as error:
        assert "run.db3" in str(error) and "\n" not in str(error)


def test_flips_anywhere_end_in_values_or_in_one_line(tmp_path):
    """Every byte that is read may be wrong: nothing but DataError comes out, nothing hangs, nothing is allocated."""
    rng = np.random.default_rng(0)
    originals = [
        storage(chunked(tmp_path / "zstd", count=80)),
        storage(chunked(tmp_path / "plain", count=80, compress=False)),
        storage(bags.drive(tmp_path / "sqlite", seconds=0.5, storage="sqlite3")),
    ]
    ended = {"read": 0, "refused": 0}
    for number in range(150):
        source = originals[number % len(originals)]
        data = bytearray(source.read_bytes())
        if number % 2:  # the frame of the container matters more than its filling
            at = rng.integers(0, 2000, 4) if rng.random() < 0.5 else len(data) - 1 - rng.integers(0, 2000, 4)
        else:
            at = rng.integers(0, len(data), 12)
        for position in at:
            data[position % len(data)] ^= 1 << int(rng.integers(8))
        path = tmp_path / f"flipped{number}{source.suffix}"
        path.write_bytes(data)
        try:
            with Bag(path) as bag:
                for _ in bag.read([name for name, topic in bag.topics.items() if topic.type == ODOMETRY]):
                    pass
            ended["read"] += 1
        except DataError as error:
            assert "\n" not in str(error) and len(str(error)) < 900
            ended["refused"] += 1
    assert min(ended.values()) > 10, ended


def test_closing_leaves_what_was_damaged(tmp_path):
    path = storage(chunked(tmp_path / "run"))
    overwrite(path, lambda data: data.__delitem__(slice(len(data) // 2, None)))
    with Bag(path) as bag:
        list(bag.read(["/odom"]))
        before = bag.damage
    assert before and bag.damage == before
