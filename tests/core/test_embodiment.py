"""Embodiments: round trips, typos, packing, limits and comparison."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import yaml

from egowm_core.embodiment import Embodiment, builtin_embodiments, load_embodiment
from egowm_core.errors import ConfigError, EmbodimentError


@pytest.fixture
def base() -> Embodiment:
    return load_embodiment("base_3dof")


def changed(base: Embodiment, **values) -> dict:
    return {**base.to_dict(), **values}


def test_base_3dof_is_what_the_project_promises(base):
    assert base.channel_names == ("dx", "dy", "dyaw")
    assert (base.rate_hz, base.integrate, base.action_dim, base.period_ns) == (4.0, "se2", 3, 250_000_000)
    assert (base.camera().height, base.camera().width, base.camera("front").hfov_deg) == (96, 128, 90.0)
    np.testing.assert_allclose(base.scales, [0.15, 0.15, 0.15])


@pytest.mark.parametrize("name", builtin_embodiments())
def test_every_builtin_loads_and_round_trips(name, tmp_path):
    first = load_embodiment(name)
    assert first.name == name
    path = tmp_path / "copy.yaml"
    path.write_text(first.to_yaml())
    assert load_embodiment(path) == load_embodiment(str(path)) == first
    assert Embodiment.from_dict(first.to_dict()) == first
    assert hash(first) == hash(load_embodiment(name))


def test_a_typo_gets_the_nearest_name():
    with pytest.raises(ConfigError, match="did you mean 'base_3dof'"):
        load_embodiment("base_3dofs")


def test_unreadable_files_name_themselves(tmp_path):
    with pytest.raises(ConfigError, match=r"absent\.yaml"):
        load_embodiment(tmp_path / "absent.yaml")
    broken = tmp_path / "broken.yaml"
    broken.write_text("name: [unclosed")
    with pytest.raises(ConfigError, match=r"broken\.yaml is not valid YAML"):
        load_embodiment(broken)
    evil = tmp_path / "evil.yaml"
    evil.write_text("!!python/object/apply:os.system ['true']")
    with pytest.raises(ConfigError):
        load_embodiment(evil)
    listed = tmp_path / "list.yaml"
    listed.write_text("- 1")
    with pytest.raises(ConfigError, match="must be a mapping"):
        load_embodiment(listed)


def test_unknown_and_missing_keys(base):
    with pytest.raises(ConfigError, match=r"unknown key 'rate_hzz'; did you mean 'rate_hz'"):
        Embodiment.from_dict({**base.to_dict(), "rate_hzz": 4})
    data = base.to_dict()
    data["channels"][1]["limit"] = [0, 1]
    with pytest.raises(ConfigError, match=r"channels\[1\] has an unknown key 'limit'; did you mean 'limits'"):
        Embodiment.from_dict(data)
    data = base.to_dict()
    del data["base_frame"]
    with pytest.raises(ConfigError, match="lacks the key 'base_frame'"):
        Embodiment.from_dict(data)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        ({"rate_hz": 0}, "rate_hz"),
        ({"rate_hz": "fast"}, "expected a number"),
        ({"rate_hz": True}, "expected a number"),
        ({"integrate": "se3"}, "integrate"),
        ({"channels": []}, "no action channels"),
        ({"channels": "dx"}, "expected a list"),
        ({"name": ""}, "expected text"),
    ],
)
def test_bad_values_are_named(base, edit, message):
    with pytest.raises(ConfigError, match=message):
        Embodiment.from_dict(changed(base, **edit))


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        ({"kind": "speed"}, "kind 'speed'"),
        ({"limits": [1, -1]}, "limits"),
        ({"limits": [0]}, "two numbers"),
        ({"limits": [0, float("nan")]}, "limits"),
        ({"scale": 0}, "scale"),
        ({"name": "dy"}, "listed twice"),
    ],
)
def test_bad_channels_are_named(base, edit, message):
    data = base.to_dict()
    data["channels"][0].update(edit)
    with pytest.raises(ConfigError, match=message):
        Embodiment.from_dict(data)


def test_se2_wants_three_channels(base):
    with pytest.raises(ConfigError, match="dx, dy, dyaw"):
        Embodiment.from_dict(changed(base, channels=base.to_dict()["channels"][:2]))


def test_pack_and_unpack_are_inverse(base):
    one = base.pack({"dyaw": 0.3, "dx": 0.1, "dy": 0.2})
    np.testing.assert_allclose(one, [0.1, 0.2, 0.3], rtol=1e-6)
    assert one.dtype == np.float32
    rows = base.pack({"dx": [1, 2], "dy": [3, 4], "dyaw": [5, 6]})
    np.testing.assert_array_equal(rows, [[1, 3, 5], [2, 4, 6]])
    np.testing.assert_array_equal(base.unpack(rows)["dy"], [3, 4])
    np.testing.assert_array_equal(base.pack(base.unpack(rows)), rows)


def test_pack_refuses_wrong_names_and_shapes(base):
    with pytest.raises(EmbodimentError, match="no channel 'dyaww'; did you mean 'dyaw'"):
        base.pack({"dx": 0, "dy": 0, "dyaww": 0})
    with pytest.raises(EmbodimentError, match=r"channel 'dyaw'.*no value"):
        base.pack({"dx": 0, "dy": 0})
    with pytest.raises(EmbodimentError, match="scalars or all"):
        base.pack({"dx": [0, 1], "dy": 0, "dyaw": 0})
    with pytest.raises(EmbodimentError, match="shape"):
        base.unpack(np.zeros((4, 2)))


def test_validate_actions_passes_what_fits(base):
    values = base.validate_actions([[0.2, -0.1, 0.2], [0, 0, 0]])
    assert values.dtype == np.float32
    assert base.validate_actions(values).shape == (2, 3)  # float32 rounding of a limit is no violation
    assert base.validate_actions(np.zeros((0, 3))).shape == (0, 3)


def test_validate_actions_names_channel_row_value_limits_and_remedy(base):
    with pytest.raises(EmbodimentError, match=r"'dyaw' row 1: value 0\.5 rad .*-0\.2\.\.0\.2.*divide by 4 Hz"):
        base.validate_actions([[0, 0, 0], [0, 0, 0.5]])
    with pytest.raises(EmbodimentError, match=r"'dx' row 0: value 8\.25 m .*not raw or normalised"):
        base.validate_actions([[8.25, 0, 0]])
    with pytest.raises(EmbodimentError, match=r"'dy' row 0.*not finite"):
        base.validate_actions([[0, np.nan, 0]])
    with pytest.raises(EmbodimentError, match=r"\(T,3\).*\(2,\)"):
        base.validate_actions([0, 0])
    with pytest.raises(EmbodimentError, match=r"shape \(1, 2\)"):
        base.validate_actions([[0, 0]])


def test_require_same_lists_every_difference(base):
    base.require_same(replace(base, name="other"))
    data = base.to_dict()
    data["channels"] = [data["channels"][1], data["channels"][0], data["channels"][2]]
    with pytest.raises(EmbodimentError, match=r"reordered: expected .*'dx', 'dy'.* got .*'dy', 'dx'"):
        base.require_same(Embodiment.from_dict(data))
    data = base.to_dict()
    data["rate_hz"] = 10
    data["channels"][2]["name"] = "yaw"
    data["channels"][0]["scale"] = 55.0
    with pytest.raises(EmbodimentError) as caught:
        base.require_same(Embodiment.from_dict(data))
    for part in ("'dyaw' is missing", "'yaw' is not expected", "scale of 'dx'", "rate: expected 4 Hz, got 10 Hz"):
        assert part in str(caught.value)


def test_with_rate_stretches_deltas_only(base):
    slower = base.with_rate(2.0)
    assert slower.rate_hz == 2.0
    np.testing.assert_allclose(slower.scales, 2 * base.scales)
    np.testing.assert_allclose(slower.limits, 2 * base.limits)
    assert base.with_rate(4.0) is base
    velocity = replace(base, integrate="sum", channels=tuple(replace(c, kind="velocity") for c in base.channels))
    np.testing.assert_allclose(velocity.with_rate(2.0).limits, base.limits)
    with pytest.raises(ConfigError, match="rate_hz"):
        base.with_rate(-1)


def test_unknown_camera(base):
    with pytest.raises(EmbodimentError, match=r"no camera 'rear'.*front"):
        base.camera("rear")


def test_yaml_is_plain(base):
    assert yaml.safe_load(base.to_yaml()) == base.to_dict()
