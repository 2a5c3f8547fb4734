"""`egowm-bench`: counted operations, the form of its rows, what it refuses. Nothing about how long things take."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from egowm_core.bench import main
from egowm_core.bench.build import build_model, build_parts, with_tiny_decoder
from egowm_core.bench.compare import Choice, choices
from egowm_core.bench.configs import setting
from egowm_core.bench.estimate import estimate
from egowm_core.bench.flops import count_flops, matmul_ceiling
from egowm_core.bench.stages import RolloutInputs, rollout_work
from egowm_core.bench.timing import STAGES, Mark, Percentiles, StageClock, time_stages
from egowm_core.errors import ConfigError
from tests.fixtures.tiny_checkpoint import save_tiny_checkpoint

CPU = torch.device("cpu")
QUICK = ["--repeats", "1", "--warm-up", "0"]
Rows = dict[str, dict[str, dict[str, float]]]


@pytest.fixture(scope="module", params=["svd", "cosmos"])
def measured(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, Any]]:
    """One comparison of each backbone in small, as the command writes it."""
    out = tmp_path_factory.mktemp("bench") / "figures.json"
    steps = ["--num-denoising-steps", "1,3", "--guidance-scale", "1.5"]
    command = ["--backbone", request.param, "--against-stock", *steps, *QUICK, "--json", str(out)]
    assert main(command) == 0
    return request.param, json.loads(out.read_text())


def flop(rows: Rows, name: str) -> dict[str, float]:
    return {stage: rows[name][stage]["flop"] for stage in (*STAGES, "total")}


def test_every_row_has_every_stage_in_the_house_form(measured: tuple[str, dict[str, Any]]) -> None:
    backbone, figures = measured
    rows: Rows = figures["rows"]
    expected = {"stock", "ours_1", "ours_3", "ours_1_guided", "ours_3_guided"}
    expected |= {"ours_1_tiny_decoder", "ours_3_tiny_decoder"} if backbone == "svd" else set()
    assert set(rows) == expected
    for row in rows.values():
        for stage in (*STAGES, "total"):
            found = row[stage]
            assert set(found) == {"p50", "p99", "flop", "flop_per_s", "of_ceiling"}
            assert all(math.isfinite(value) and value > 0 for value in found.values())
            assert found["p50"] <= found["p99"]
            assert 0 < found["of_ceiling"] < 1.5
            assert found["flop_per_s"] == pytest.approx(found["flop"] / found["p50"])
        assert sum(row[stage]["flop"] for stage in STAGES) == row["total"]["flop"]
        assert row["speed_up"]["ratio"] == pytest.approx(rows["stock"]["total"]["p50"] / row["total"]["p50"])
        assert row["real_time"]["ratio"] > 0
    assert figures["about"]["dtype"] == "float32" and figures["about"]["ceiling_flop_per_s"] > 0


def test_denoising_work_is_proportional_to_steps_and_doubled_by_guidance(measured: tuple[str, dict[str, Any]]) -> None:
    rows: Rows = measured[1]["rows"]
    one = flop(rows, "ours_1")
    for name, factor in (("ours_3", 3), ("ours_1_guided", 2), ("ours_3_guided", 6)):
        other = flop(rows, name)
        assert other["denoise"] == factor * one["denoise"]
        assert (other["encode"], other["decode"]) == (one["encode"], one["decode"])


def test_the_stock_pipeline_does_its_steps_twice_and_ours_adds_the_action_path_alone(
    measured: tuple[str, dict[str, Any]],
) -> None:
    backbone, figures = measured
    rows: Rows = figures["rows"]
    tiny = setting(backbone, "tiny")
    evaluation = estimate(tiny).pass_flop  # counted apart, on shapes alone
    assert rows["stock"]["denoise"]["flop"] == 2 * tiny.stock_denoising_steps * evaluation
    model = build_model(tiny, build_parts(tiny, device=CPU, dtype=torch.float32), device=CPU)
    encoder = model.denoiser.action_encoder  # type: ignore[attr-defined]

    def action_path(mark: Mark) -> None:
        mark("denoise")
        encoder(torch.zeros(1, tiny.horizon, 3))

    assert rows["ours_1"]["denoise"]["flop"] == evaluation + count_flops(action_path)["denoise"]
    assert rows["ours_1"]["decode"]["flop"] == rows["stock"]["decode"]["flop"]


def test_a_tiny_decoder_decodes_for_less(measured: tuple[str, dict[str, Any]]) -> None:
    backbone, figures = measured
    if backbone == "svd":
        rows: Rows = figures["rows"]
        assert rows["ours_1_tiny_decoder"]["decode"]["flop"] < 0.5 * rows["ours_1"]["decode"]["flop"]
        assert rows["ours_1_tiny_decoder"]["denoise"]["flop"] == rows["ours_1"]["denoise"]["flop"]
    else:
        tiny = setting(backbone, "tiny")
        model = build_model(tiny, build_parts(tiny, device=CPU, dtype=torch.float32), device=CPU)
        with pytest.raises(ConfigError, match="4 frames"):
            with_tiny_decoder(model, tiny)


def test_the_published_sizes_are_the_published_ones() -> None:
    svd, cosmos = estimate(setting("svd", "real")), estimate(setting("cosmos", "real"))
    assert svd.parameters["denoiser"] == 1_524_623_082
    assert svd.parameters["autoencoder"] == pytest.approx(97.7e6, rel=0.01)
    assert cosmos.parameters["denoiser"] == pytest.approx(1.956e9, rel=0.001)
    assert cosmos.parameters["autoencoder"] == pytest.approx(126.9e6, rel=0.01)
    assert svd.pass_flop == pytest.approx(10.2e12, rel=0.01)
    assert svd.stock_flop == 50 * svd.pass_flop and cosmos.stock_flop == 70 * cosmos.pass_flop


def test_the_published_size_is_refused_on_a_cpu(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--backbone", "cosmos", "--size", "real"]) == 1
    said = capsys.readouterr()
    assert "GB" in said.err and "minutes" in said.err and "--force" in said.err
    assert not said.out


def test_a_checkpoint_is_measured_by_steps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint = save_tiny_checkpoint(tmp_path / "tiny", horizon=4)
    out = tmp_path / "figures.json"
    command = [str(checkpoint), "--num-denoising-steps", "1,2", "--horizon", "8", "--float32", *QUICK]
    assert main([*command, "--overlap", "--threads", "1", "--json", str(out)]) == 0
    rows: Rows = json.loads(out.read_text())["rows"]
    names = ["steps_1", "steps_2", "steps_1_overlap", "steps_2_overlap"]
    assert list(rows) == names
    assert rows["steps_2_overlap"]["denoise"]["flop"] == rows["steps_2"]["denoise"]["flop"]
    assert rows["steps_2"]["denoise"]["flop"] == 2 * rows["steps_1"]["denoise"]["flop"] > 0
    assert "speed_up" not in rows["steps_1"]
    assert [line.split("|")[1].strip() for line in capsys.readouterr().out.splitlines()[2:]] == names
    assert not list(tmp_path.glob("*.partial"))


@pytest.mark.parametrize(
    ("command", "remedy"),
    [
        (["--against-stock"], "--backbone"),
        (["embedded:base_3dof", "--backbone", "svd"], "leave one of them out"),
        (["--backbone", "svd", "--engine", "onnx-cpu"], "leave one of them out"),
        (["--backbone", "svd", "--warp", "floor"], "leave one of them out"),
        (["--engine", "onnx-cpu"], "egowm-export"),
        (["--dtype", "float16"], "--backbone"),
        (["--tiny-decoder", "nowhere"], "leave the option out"),
        (["--device", "gpu"], "cuda"),
        (["--device", "cuda:77"], "--device"),
        (["nowhere/at/all"], "no such directory"),
    ],
)
def test_what_does_not_go_together_is_said(command: list[str], remedy: str, capsys: pytest.CaptureFixture[str]) -> None:
    if command[-1] == "cuda:77" and torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    assert main(command) == 1
    assert remedy in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--compile", "reduce-overheads", "did you mean 'reduce-overhead'?"),
        ("--num-denoising-steps", "1,0", "at least 1"),
        ("--repeats", "none", "at least 1"),
        ("--backbone", "sdv", "invalid choice"),
    ],
)
def test_bad_values_are_usage_errors(option: str, value: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([option, value])
    assert stopped.value.code == 2
    assert said in " ".join(capsys.readouterr().err.split())


def test_help_names_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["--help"])
    assert stopped.value.code == 0
    said = capsys.readouterr().out
    for option in ("--backbone", "--against-stock", "--compile", "--engine", "--tiny-decoder", "--dtype", "--json"):
        assert option in said


def test_choices_put_eager_rows_before_their_compiled_twins() -> None:
    found = choices([1, 4], guidance_scales=(0.0, 2.0), compile_modes=["default"], tiny_decoder=True, overlap=True)
    names = [choice.name("ours") for choice in found]
    assert len(set(names)) == len(names) == 12
    assert names[-2:] == ["ours_1_overlap", "ours_4_overlap"]
    assert names[:4] == ["ours_1", "ours_4", "ours_1_guided", "ours_4_guided"]
    assert Choice(4, 0.0, "default", True).name("ours") == "ours_4_default_tiny_decoder"
    for index, choice in enumerate(found):
        if choice.compile_mode != "none" or choice.overlap:
            eager = Choice(choice.num_denoising_steps, choice.guidance_scale, "none", choice.tiny_decoder)
            assert eager in found[:index]


def test_stages_may_come_again_and_the_clock_adds_them_up() -> None:
    clock = StageClock(CPU)
    for stage in ("encode", "denoise", "decode", "denoise", "decode", "decode"):
        clock.mark(stage)
        torch.zeros(1000).sum()
    times = clock.finish()
    assert list(times) == [*STAGES, "total"]
    assert all(value > 0 for value in times.values())
    assert sum(times[stage] for stage in STAGES) <= times["total"]


def test_timing_counts_measured_runs_alone() -> None:
    runs: list[int] = []
    timing = time_stages(lambda mark: runs.append(1) or mark("encode"), device=CPU, repeats=4, warm_up=2)
    assert len(runs) == 6 and timing.repeats == 4 and timing.peak_bytes is None
    assert timing.stages["decode"] == Percentiles(0.0, 0.0)
    with pytest.raises(ValueError, match="at least 1"):
        time_stages(lambda mark: None, device=CPU, repeats=0)
    spread = Percentiles.of(list(np.arange(101.0)))
    assert (spread.p50, spread.p99) == (50.0, 99.0)


@pytest.mark.parametrize("inference", [False, True])
def test_products_convolutions_and_attention_are_counted_in_their_stage(inference: bool) -> None:
    query = torch.randn(1, 2, 8, 4)

    def work(mark: Mark) -> None:
        functional.linear(torch.randn(4, 16), torch.randn(32, 16))  # before the first stage: not counted
        mark("encode")
        functional.linear(torch.randn(4, 16), torch.randn(32, 16))
        mark("denoise")
        functional.scaled_dot_product_attention(query, query, query)
        mark("decode")
        functional.conv2d(torch.randn(1, 3, 8, 8), torch.randn(8, 3, 3, 3))
        mark("denoise")
        torch.randn(2, 3) @ torch.randn(3, 5)

    with torch.inference_mode(inference):
        found = count_flops(work)
    attention = 2 * 2 * (2 * 8 * 8 * 4)  # two products, two operations each
    assert found == {
        "encode": 2 * 4 * 16 * 32,
        "denoise": attention + 2 * 2 * 3 * 5,
        "decode": 2 * 8 * 6 * 6 * 3 * 3 * 3,
    }


def test_the_ceiling_is_a_rate() -> None:
    assert 0 < matmul_ceiling(CPU, torch.float32, sizes=[64]) < math.inf


def test_announcing_leaves_the_model_as_it_was() -> None:
    tiny = setting("cosmos", "tiny")
    model = build_model(tiny, build_parts(tiny, device=CPU, dtype=torch.float32), device=CPU)
    inputs = RolloutInputs.made_up(model, horizon=2 * tiny.horizon)
    stages: list[str] = []
    rollout_work(model, inputs, model.plan)(stages.append)
    entered = [stage for index, stage in enumerate(stages) if stages[index - 1 : index] != [stage]]
    assert entered == ["encode", "denoise", "decode"] * 2  # two chunks
    assert not {"encode", "decode"} & set(vars(model.vae)) and "denoise" not in vars(model.denoiser)


def test_an_unknown_setting_is_named() -> None:
    with pytest.raises(ConfigError, match="did you mean 'cosmos'"):
        setting("cosmo", "tiny")
    with pytest.raises(ConfigError, match="tiny, real"):
        setting("svd", "huge")
