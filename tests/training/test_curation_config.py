"""Configurations of curation: presets, files, and what is wrong with one, by name."""

from __future__ import annotations

import pytest

from egowm_core.errors import ConfigError
from training.curation.config import CurationConfig, curation_presets, load_curation

STANDARD, NONE = load_curation("standard"), load_curation("none")


def test_presets_and_files(tmp_path):
    assert set(curation_presets()) >= {"none", "standard"}
    assert CurationConfig() == NONE
    assert STANDARD.pause_s == 3.0
    path = tmp_path / "mine.yaml"
    path.write_text("pause_s: 5\nduplicate_similarity: null\n")
    assert load_curation(path) == CurationConfig(pause_s=5.0)
    assert load_curation(str(path)) == CurationConfig(pause_s=5.0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("pause: 3", "unknown key 'pause'.*did you mean 'pause_s'"),
        ("pause_s: -1", "pause_s is -1.0; expected a number from 0 on"),
        ("max_saturated_share: 2", "expected a number from 0 to 1"),
        ("pause_s: .nan", "pause_s is nan"),
        ("pause_s: long", "expected a number"),
        ("- 1", "must be a mapping"),
        ("a: [", "not valid YAML"),
    ],
)
def test_bad_configurations_say_what_is_wrong(tmp_path, text, message):
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_curation(path)


def test_an_unknown_preset_gets_the_nearest_name(tmp_path):
    with pytest.raises(ConfigError, match="did you mean 'standard'"):
        load_curation("standrd")
    with pytest.raises(ConfigError, match="cannot read"):
        load_curation(tmp_path / "absent.yaml")
