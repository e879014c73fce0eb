"""What is read out of compiled programs, on examples; `-m tpu`: of programs for a TPU."""

import copy
import dataclasses
from importlib.util import find_spec

import jax
import numpy as np
import pytest

from lficam_jax.data import open_pipeline
from lficam_jax.devices import topology
from lficam_jax.devices.topology import CHIPS
from lficam_jax.errors import UserError
from lficam_jax.speed.compiled import compile_for, compiled, roofline, text
from lficam_jax.speed.hlo import Program, arrays
from lficam_jax.speed.lowering import Lowering

# Eight images of 16 channels as TPU's compiler writes them: tiles of 8 x 128, S(1) is VMEM.
HLO = """\
HloModule jit_step, is_scheduled=true

%fused (param_0: f32[1000,128], param_1: s32[8]) -> f32[8,128] {
  %param_0 = f32[1000,128]{1,0:T(8,128)} parameter(0)
  %param_1 = s32[8]{0:T(128)S(1)} parameter(1)
  ROOT %rows = f32[8,128]{1,0:T(8,128)} gather(%param_0, %param_1), offset_dims={1}
}

%body (state: (f32[8,128])) -> (f32[8,128]) {
  %state = (f32[8,128]{1,0:T(8,128)}) parameter(0)
  %part = f32[8,128]{1,0:T(8,128)} get-tuple-element(%state), index=0
  %sum = f32[8,128]{1,0:T(8,128)} all-reduce(%part), to_apply=%add
  ROOT %next = (f32[8,128]{1,0:T(8,128)}) tuple(%sum)
}

ENTRY %main (images: f32[1000,128], index: s32[8], kernel: f32[16,16]) -> (f32[8,128]) {
  %images = f32[1000,128]{1,0:T(8,128)} parameter(0)
  %index = s32[8]{0:T(128)S(1)} parameter(1)
  %kernel = f32[16,16]{1,0:T(8,128)} parameter(2)
  %batch = f32[8,128]{1,0:T(8,128)} fusion(%images, %index), kind=kLoop, calls=%fused
  %copy-start = (f32[16,16]{1,0:T(8,128)S(1)}, f32[16,16]{1,0:T(8,128)}, u32[]{:S(2)}) copy-start(%kernel)
  %copy-done = f32[16,16]{1,0:T(8,128)S(1)} copy-done(%copy-start)
  %start = (f32[8,128]{1,0:T(8,128)}) tuple(%batch)
  ROOT %end = (f32[8,128]{1,0:T(8,128)}) while(%start), condition=%condition, body=%body
}
"""  # noqa: E501


def test_traffic_is_what_passes_through_hbm_with_its_padding():
    """A gather reads its rows, not all images; a kernel of 16 x 16 fills 16 of 128 lanes."""
    rows, kernel, padded = 4 * 8 * 128, 4 * 16 * 16, 4 * 16 * 128
    found = Program(HLO).traffic()
    assert found["hbm"] == 2 * rows + padded + 2 * rows  # fusion, copy out of HBM, all-reduce
    everything = found["hbm"] + padded + 4 * 128 + 4  # and into VMEM; the index; the flag
    assert found["padded"] == everything
    assert found["arrays"] == 4 * rows + 2 * kernel + 4 * 8 + 4


def test_an_asynchronous_slice_moves_its_own_rows():
    line = (
        "  %s = ((f32[3,8,128]{2,1,0:T(8,128)}), f32[1,8,128]{2,1,0:T(8,128)S(1)}, s32[]{:S(2)}) "
        "slice-start(%kernel), slice={[0:1], [0:8], [0:128]}"
    )
    found = Program("\n".join(["ENTRY %main () -> f32[1] {", line, "}"])).traffic()
    assert found == {"hbm": 4096, "padded": 2 * 4096, "arrays": 2 * 4096}


def test_collectives_and_loops():
    program = Program(HLO)
    assert program.collectives() == {"all-reduce": {"count": 1, "bytes": 4 * 8 * 128}}
    assert program.loops() == 1


def test_an_asynchronous_collective_counts_once():
    lines = (
        "  %s = (f32[2], f32[16]{0}) all-gather-start(%a), dimensions={0}",
        "  %d = f32[16]{0} all-gather-done(%s)",
    )
    found = Program("\n".join(["ENTRY %main () -> f32[16] {", *lines, "}"])).collectives()
    assert found == {"all-gather": {"count": 1, "bytes": 64}}
    assert list(arrays("bf16[3,5]{0,1:T(8,128)(2,1)}")) == [(30, 2 * 128 * 8, True)]


def test_the_bound_of_a_step_on_a_v5e():
    """197 GFLOP take a millisecond at 197 TFLOP/s, 8.19 GB ten at 819 GB/s."""
    by_memory = roofline(197e9, 8.19e9, CHIPS["v5e"])
    assert by_memory["bound_seconds"] == pytest.approx(0.010)
    assert by_memory["bound_by"] == "memory"
    by_arithmetic = roofline(197e9, 0.0819e9, CHIPS["v5e"])
    assert by_arithmetic["bound_seconds"] == pytest.approx(0.001)
    assert by_arithmetic["bound_by"] == "arithmetic"
    assert by_arithmetic["intensity"] == pytest.approx(197 / 0.0819)


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("pipeline", ["resident", "streaming"])
def test_black_pictures_have_the_shapes_of_the_data_set(tiny, split, pipeline):
    data = tiny.data
    data.pipeline = pipeline

    def rows(blank):
        opened = open_pipeline(data, split, batch_size=16, train=split == "train", blank=blank)
        batch = next(opened.batches(0))
        return {k: (v.shape, v.dtype) for k, v in batch.items()}, {*opened.resident}

    assert rows(blank=True) == rows(blank=False)


@pytest.mark.parametrize("mode", ["pmap", "shard_map"])
def test_the_real_step_compiles_for_devices_it_is_given(tiny, mode):
    """On two CPU devices, for a chip with too little memory for it."""
    config = tiny
    config.parallel.mode = mode
    lowering = Lowering(config, jax.devices()[:2])
    (name, batch, lower), *_ = lowering.programs(["train"], [])
    chip = dataclasses.replace(CHIPS["v5e"], memory=1)
    found = compiled(lower, chip)
    assert (name, batch) == ("training step", 8)
    assert not found["fits"] and found["share"] == found["memory"] > found["arguments"] > 0
    assert found["collectives"]["all-reduce"]["bytes"] > 0
    assert found["flops"] > 1e6 and found["loops"] >= 0


def test_every_program_of_a_run_is_there_and_a_batch_must_divide(tiny):
    lowering = Lowering(tiny, jax.devices()[:2])
    names = [name for name, *_ in lowering.programs(["train", "evaluate", "maps"], ["own"])]
    assert names == ["training step", "evaluation", "own"]
    config = copy.deepcopy(tiny)
    config.train.batch_size = 15
    with pytest.raises(UserError, match="15 is not divisible by 2 devices; use 14 or 16"):
        list(Lowering(config, jax.devices()[:2]).programs(["train"], []))


def test_what_does_not_fit_is_said_in_the_compilers_words():
    class Refusing:
        def compile(self):
            raise jax.errors.JaxRuntimeError(
                "RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm. Used 20.53G of 15.75G "
                "hbm. Exceeded hbm capacity by 4.78G.\n\nTotal hbm usage"
            )

    row = {"name": "training step", "batch": 16} | compiled(Refusing, CHIPS["v5e"])
    assert not row["fits"] and row["refused"] == "Used 20.53G of 15.75G hbm"
    shown = text({"setting": "a network", "programs": [row]})
    assert "NO" in shown and "training step: Used 20.53G of 15.75G hbm" in shown


@pytest.mark.tpu
@pytest.mark.parametrize("mode", ["pmap", "shard_map"])
def test_a_small_network_compiles_for_a_tpu(tiny, mode, capsys, monkeypatch):
    assert find_spec("libtpu"), "-m tpu needs pip install 'jax[tpu]'"
    for name in topology.ENVIRONMENT:
        monkeypatch.setenv(name, topology.ENVIRONMENT[name])  # and take them away afterwards
    tiny.parallel.mode = mode
    tiny.model.depth = 8
    found = compile_for(tiny, "v5litepod-8", methods=["own"])
    assert [row["name"] for row in found["programs"]] == ["training step", "evaluation", "own"]
    for row in found["programs"]:
        assert row["fits"] and 0 < row["hbm_bytes"] <= row["bytes"] and row["padding"] > 1
    step = found["programs"][0]
    weights = 4 * 78_000  # a gradient for each is summed over the chips
    assert step["collectives"]["all-reduce"]["bytes"] > weights
    assert "8 chips of 16 GiB" in capsys.readouterr().out
    assert np.isfinite(step["bound_seconds"])
