"""The graph for GPUs: against numpy on any shape, its size, and whether TensorRT can build it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("onnxruntime")
onnx = pytest.importorskip("onnx")

from test_runtime_engine_native import SHAPES, Shape, arrays, numpy_answer

from spikewire.fused import fused
from spikewire.golden import open_session
from spikewire.signals import WINDOW


def made(shape: Shape, seed: int = 0) -> tuple[object, dict[str, np.ndarray], int]:
    weights = arrays(shape, np.random.default_rng(seed))
    inputs = shape.units if shape.delays else shape.channels
    return fused(weights, inputs, shape.bin_start), weights, inputs


@pytest.mark.parametrize("name", SHAPES)
def test_it_says_what_numpy_says(name: str) -> None:
    shape, rng = SHAPES[name], np.random.default_rng(1)
    model, weights, inputs = made(shape)
    session = open_session(model.SerializeToString())
    for window in rng.normal(0, 1, (10, WINDOW, inputs)).astype(np.float32):
        said = dict(zip([o.name for o in session.get_outputs()],
                        session.run(None, {"x": window[None]}), strict=True))
        logit, where = numpy_answer(shape, weights, window)
        assert said["presence"][0] == pytest.approx(1 / (1 + np.exp(-logit)), abs=1e-5)
        assert ("position" in said) == shape.linear
        if shape.linear:
            assert said["position"][0] == pytest.approx(where, abs=1e-4)


@pytest.mark.parametrize(("name", "most"), [("paper's", 21), ("recommended", 39)])
def test_its_size_does_not_grow_with_the_units(name: str, most: int) -> None:
    counts = {len(made(replace(SHAPES[name], units=units))[0].graph.node) for units in (2, 9, 40)}
    assert counts == {most}


def test_tensorrt_builds_every_precision(tmp_path) -> None:
    """Parsed and built without a GPU, by TensorRT for RTX; nothing is executed."""
    trt = pytest.importorskip("tensorrt_rtx")
    pytest.importorskip("tensorflow")
    from spikewire.export import in_precision

    logger = trt.Logger(trt.Logger.ERROR)
    for name in ("paper's", "recommended", "linear alone"):
        model, _, inputs = made(SHAPES[name])
        windows = np.random.default_rng(2).normal(0, 1, (20, WINDOW, inputs)).astype(np.float32)
        for precision in ("fp32", "fp16", "int8"):
            if precision == "int8" and name == "linear alone":
                continue  # has no weights to round
            content = in_precision(model, precision, windows).SerializeToString()
            builder = trt.Builder(logger)
            network = builder.create_network(
                1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
            parser = trt.OnnxParser(network, logger)
            parsed = parser.parse(content)
            errors = [str(parser.get_error(k)) for k in range(parser.num_errors)]
            assert parsed, (name, precision, errors)
            config = builder.create_builder_config()
            config.num_compute_capabilities = 1
            config.set_compute_capability(trt.ComputeCapability.SM86, 0)
            assert builder.build_serialized_network(network, config) is not None
