"""Writing each format, and running what was written: images `(batch, height, width, bands)` to probabilities."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import re
import shutil
import sys
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from rsml.export.portable import kept_in_float, portable
from rsml.utils.errors import UserError
from rsml.utils.packages import require
from rsml.utils.quiet import log_level_restored

INPUT, OUTPUT, SIGNATURE = "images", "probabilities", "serving_default"
OPSET = 18
Runner = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Source:
    """What all formats are made from.

    Args:
        model: Raw images to probabilities.
        about: The facts that travel with the model, as `model.json` holds them.
        calibration: `(images, height, width, bands)` float32 of 0 to 255, which set the ranges of int8.
        workspace: A folder for what is needed on the way.
        batch: Images a batch; None for any number.
    """

    model: keras.Model
    about: dict[str, Any]
    calibration: np.ndarray
    workspace: Path
    batch: int | None = None

    @cached_property
    def portable(self) -> keras.Model:
        """The model in operations that every format has."""
        return portable(self.model)

    @cached_property
    def signature(self) -> tf.TensorSpec:
        """What an image batch looks like."""
        return tf.TensorSpec((self.batch, *self.model.input_shape[1:]), tf.float32, name=INPUT)

    @cached_property
    def function(self) -> Any:
        """The model as a TensorFlow function of one named input and one named output."""
        model = self.portable
        return tf.function(
            lambda images: {OUTPUT: tf.cast(model(images, training=False), tf.float32)},
            input_signature=[self.signature],
        )

    @cached_property
    def saved_model(self) -> Path:
        """A SavedModel in the workspace, which TFLite is made from too."""
        folder = self.workspace / "saved_model"
        # Keras's own export keeps every weight twice.
        module = tf.Module()
        module.weights = [variable.value for variable in self.portable.variables]
        module.serve = self.function
        tf.saved_model.save(module, str(folder), signatures={SIGNATURE: self.function})
        extra = folder / "assets.extra"
        extra.mkdir()
        for name, text in companions(self.about).items():
            (extra / name).write_text(text, encoding="utf-8")
        return folder


@dataclass(frozen=True)
class Format:
    """One format.

    Args:
        file: What it is called.
        write: Writes it to a path that does not exist.
        open: Makes a written one ready to run.
        exact: Whether it computes in float32, so that a difference is a fault.
        needs: Packages beside TensorFlow.
    """

    file: str
    write: Callable[[Source, Path], None]
    open: Callable[[Path], Runner]
    exact: bool = True
    needs: tuple[str, ...] = ()

    def check_packages(self) -> None:
        """Says what must be installed."""
        require(*self.needs)


def companions(about: dict[str, Any]) -> dict[str, str]:
    """What lies beside or inside every format: file name to text."""
    return {"labels.txt": "\n".join(about["labels"]) + "\n", "model.json": json.dumps(about, indent=2) + "\n"}


@contextlib.contextmanager
def held_output() -> Iterator[None]:
    """Keeps the converters' notes, which are written past Python, off the terminal."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = [os.dup(stream) for stream in (1, 2)]
    with tempfile.TemporaryFile() as held, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            for stream in (1, 2):
                os.dup2(held.fileno(), stream)
            yield
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for stream, copy in zip((1, 2), kept, strict=True):
                os.dup2(copy, stream)
                os.close(copy)


def _write_saved_model(source: Source, path: Path) -> None:
    shutil.copytree(source.saved_model, path)


def _open_saved_model(path: Path) -> Runner:
    loaded = tf.saved_model.load(str(path))
    serve = loaded.signatures[SIGNATURE]

    def run(images: np.ndarray) -> np.ndarray:
        # `loaded` owns the weights that `serve` reads.
        _ = loaded
        return serve(**{INPUT: tf.constant(images)})[OUTPUT].numpy()

    return run


def _write_tflite(source: Source, path: Path) -> None:
    _finish_tflite(source, path, _converter(source).convert())


def _write_float16(source: Source, path: Path) -> None:
    converter = _converter(source)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.target_spec.supported_types = [tf.float16]
    _finish_tflite(source, path, converter.convert())


def _write_int8(source: Source, path: Path) -> None:
    """Integer weights and activations: bytes of an image in, float probabilities out."""
    images = source.calibration.copy()
    # The range of pixels is known, whatever these images hold: so a byte goes in as it is, at scale 1.
    images[0, 0, :2, :] = [[0.0], [255.0]]

    def representative() -> Iterator[list[np.ndarray]]:
        batch = source.batch or 1
        for start in range(0, len(images), batch):
            yield [np.resize(images[start : start + batch], (batch, *images.shape[1:]))]

    converter = _converter(source)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = representative
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = tf.uint8
    kept = kept_in_float(source.portable)
    if not kept:
        _finish_tflite(source, path, converter.convert())
        return
    # Softmax over channels has 1/256 for its smallest step in 8 bits, which is more than a channel's whole share:
    # these layers stay in float32. Only the debugger can leave layers out.
    from tensorflow.lite.python.util import modify_model_io_type

    within = re.compile("|".join(rf"(?:^|/|;){re.escape(name)}(?:_\d+)?/" for name in kept))
    tensors = _interpreter(_converter(source).convert()).get_tensor_details()
    debugger = tf.lite.experimental.QuantizationDebugger(
        converter=converter,
        debug_dataset=representative,
        debug_options=tf.lite.experimental.QuantizationDebugOptions(
            denylisted_nodes=[tensor["name"] for tensor in tensors if within.search(tensor["name"])]
        ),
    )
    mixed = debugger.get_nondebug_quantized_model()
    _finish_tflite(source, path, bytes(modify_model_io_type(mixed, tf.uint8, tf.float32)))


def _converter(source: Source) -> Any:
    return tf.lite.TFLiteConverter.from_saved_model(str(source.saved_model), signature_keys=[SIGNATURE])


def _finish_tflite(source: Source, path: Path, content: bytes) -> None:
    """Writes a TFLite model with its associated files, which the format keeps as a ZIP archive behind the model."""
    path.write_bytes(content)
    with zipfile.ZipFile(path, "a") as archive:
        for name, text in companions(source.about).items():
            archive.writestr(name, text)


def _interpreter(content: bytes) -> Any:
    if importlib.util.find_spec("ai_edge_litert") is not None:
        from ai_edge_litert.interpreter import Interpreter
    elif hasattr(tf.lite, "Interpreter"):
        Interpreter = tf.lite.Interpreter
    else:
        raise UserError("written files cannot be run here; pip install ai-edge-litert")
    return Interpreter(model_content=content)


def _open_tflite(path: Path) -> Runner:
    interpreter = _interpreter(path.read_bytes())
    given = interpreter.get_input_details()[0]
    returned = interpreter.get_output_details()[0]["index"]
    interpreter.allocate_tensors()

    def run(images: np.ndarray) -> np.ndarray:
        if interpreter.get_input_details()[0]["shape"].tolist() != list(images.shape):
            interpreter.resize_tensor_input(given["index"], images.shape, strict=True)
            interpreter.allocate_tensors()
        pixels = np.rint(images) if given["dtype"] == np.uint8 else images
        interpreter.set_tensor(given["index"], pixels.astype(given["dtype"]))
        interpreter.invoke()
        return interpreter.get_tensor(returned)

    return run


def _write_onnx(source: Source, path: Path) -> None:
    import onnx

    with log_level_restored():
        import tf2onnx

        model, _ = tf2onnx.convert.from_function(source.function, [source.signature], opset=OPSET)
    if source.batch is None:
        for value in (*model.graph.input, *model.graph.output):
            value.type.tensor_type.shape.dim[0].dim_param = "batch"
    facts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in source.about.items()}
    onnx.helper.set_model_props(model, facts)
    onnx.checker.check_model(model)
    onnx.save(model, path)


def _open_onnx(path: Path) -> Runner:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda images: session.run([OUTPUT], {INPUT: images})[0]


FORMATS: dict[str, Format] = {
    "savedmodel": Format("saved_model", _write_saved_model, _open_saved_model),
    "tflite": Format("model.tflite", _write_tflite, _open_tflite),
    "tflite-float16": Format("model-float16.tflite", _write_float16, _open_tflite, exact=False),
    "tflite-int8": Format("model-int8.tflite", _write_int8, _open_tflite, exact=False),
    "onnx": Format("model.onnx", _write_onnx, _open_onnx, needs=("tf2onnx", "onnx", "onnxruntime")),
}


def one_line(fault: Exception) -> str:
    """The reason in a converter's report."""
    lines = [line.strip() for line in str(fault).splitlines() if line.strip()]
    errors: Sequence[str] = [line for line in lines if "error:" in line] or lines or [type(fault).__name__]
    return errors[0].rpartition("error: ")[2][:240]
