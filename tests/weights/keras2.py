"""Whole-model HDF5 files in the layout of Keras 2.2.5, made with tf-keras; and small networks of NASNet's layers."""

import json

import h5py
import numpy as np
import tf_keras
from tf_keras import layers


def improved_cross_entropy(name):
    """A loss that nobody but this process knows, under a name that the authors gave theirs."""

    def loss(labels, predictions):
        return tf_keras.losses.categorical_crossentropy(labels, predictions)

    loss.__name__ = name
    return loss


def nasnet_like(classes=5, size=32, filters=12, head=(728, 256)):
    """A stem, a reduction and a normal cell with NASNet's kinds of layers, and the classifier of the ICE authors."""
    image = layers.Input((size, size, 3))
    x = layers.Conv2D(8, 3, strides=2, padding="valid", use_bias=False, name="stem_conv1",
                      kernel_initializer="he_normal")(image)  # fmt: skip
    x = stem = layers.BatchNormalization(axis=3, momentum=0.9997, epsilon=1e-3, name="stem_bn1")(x)

    # The reduction cell: padding as Keras-applications computed it, strided separable convolutions, poolings.
    x = layers.Activation("relu")(stem)
    x = layers.Conv2D(filters, 1, padding="same", use_bias=False, name="reduction_conv_1_stem_1")(x)
    h = layers.BatchNormalization(axis=3, epsilon=1e-3, name="reduction_bn_1_stem_1")(x)
    padded = layers.ZeroPadding2D(((1, 1), (1, 1)), name="reduction_pad_1_stem_1")(h)
    left = _separable(h, filters, 5, "reduction_left1_stem_1", stride=2)
    pooled = layers.MaxPooling2D(3, strides=2, padding="valid", name="reduction_left2_stem_1")(padded)
    first = layers.add([left, pooled], name="reduction_add_1_stem_1")
    averaged = layers.AveragePooling2D(3, strides=1, padding="same", name="reduction_left4_stem_1")(first)
    x = layers.concatenate([first, averaged], axis=3, name="reduction_concat_stem_1")

    # The normal cell takes the stem cut to the size of the cell before it.
    p = layers.ReLU(max_value=6.0, name="adjust_relu_1_0")(stem)
    one = layers.AveragePooling2D(1, strides=2, padding="valid", name="adjust_avg_pool_1_0")(p)
    one = layers.Conv2D(filters // 2, 1, use_bias=False, name="adjust_conv_1_0")(one)
    two = layers.ZeroPadding2D(((0, 1), (0, 1)))(p)
    two = layers.Cropping2D(((1, 0), (1, 0)))(two)
    two = layers.AveragePooling2D(1, strides=2, padding="valid", name="adjust_avg_pool_2_0")(two)
    two = layers.Conv2D(filters // 2, 1, use_bias=False, name="adjust_conv_2_0")(two)
    p = layers.concatenate([one, two], axis=3)
    p = layers.BatchNormalization(axis=3, epsilon=1e-3, name="adjust_bn_0")(p)
    h = layers.Conv2D(filters, 1, use_bias=False, name="normal_conv_1_0")(layers.Activation("relu")(x))
    added = layers.add([_separable(h, filters, 3, "normal_left1_0"), _separable(p, filters, 5, "normal_right1_0")])
    x = layers.concatenate([p, added, layers.AveragePooling2D(3, strides=1, padding="same")(h)], axis=3)
    x = layers.Activation("relu")(x)
    return tf_keras.Model(image, classifier(x, classes, head))


def _separable(x, filters, kernel, name, stride=1):
    x = layers.Activation("relu")(x)
    padding = "same"
    if stride == 2:
        before = kernel // 2 - (1 - x.shape[1] % 2)
        x = layers.ZeroPadding2D(((before, kernel // 2), (before, kernel // 2)), name=f"separable_pad_{name}")(x)
        padding = "valid"
    x = layers.SeparableConv2D(filters, kernel, strides=stride, padding=padding, use_bias=False,
                               name=f"separable_conv_1_{name}")(x)  # fmt: skip
    return layers.BatchNormalization(axis=3, epsilon=1e-3, name=f"separable_conv_1_bn_{name}")(x)


def classifier(x, classes, head=(728, 256)):
    """Squeeze-and-excitation with ratio 6, max-pool 4 x 4 of stride 1, global average, dense layers with dropout."""
    channels = x.shape[-1]
    gate = layers.GlobalAveragePooling2D()(x)
    gate = layers.Reshape((1, 1, channels))(gate)
    gate = layers.Dense(channels // 6, activation="relu", kernel_initializer="he_normal", use_bias=False)(gate)
    gate = layers.Dense(channels, activation="sigmoid", kernel_initializer="he_normal", use_bias=False)(gate)
    x = layers.multiply([x, gate])
    x = layers.MaxPooling2D(4, strides=1)(x)
    x = layers.GlobalAveragePooling2D()(x)
    for rate, width in zip((0.4, 0.3), head, strict=True):
        x = layers.Dense(width)(layers.Dropout(rate)(x))
    return layers.Dense(classes, activation="softmax")(layers.Dropout(0.2)(x))


def with_random_weights(model, seed=0):
    """Fills a model, its batch statistics too, so that no two weights could be exchanged without being seen."""
    random = np.random.default_rng(seed)
    for layer in model.layers:
        if hasattr(layer, "layers"):
            with_random_weights(layer, seed + 1)
        elif isinstance(layer, layers.BatchNormalization):
            layer.set_weights([random.uniform(0.8, 1.2, weight.shape) for weight in layer.get_weights()])
        else:
            arrays = layer.get_weights()
            layer.set_weights([random.normal(0, 1 / np.sqrt(np.prod(a.shape[:-1])), a.shape) for a in arrays])
    return model


def save(model, path, loss="ICE"):
    """Saves a compiled model as Keras 2.2.5 did: its class names, options, call lists, byte strings and version."""
    model.compile(optimizer=tf_keras.optimizers.legacy.SGD(1e-3, momentum=0.9), loss=improved_cross_entropy(loss))
    model.save(path, save_format="h5")
    with h5py.File(path, "r+") as file:
        config = as_keras_2_2_5(json.loads(file.attrs["model_config"]))
        training = json.loads(file.attrs["training_config"])
        training["optimizer_config"]["class_name"] = "SGD"
        file.attrs["model_config"] = json.dumps(config).encode()
        file.attrs["training_config"] = json.dumps(
            {**training, "metrics": ["accuracy"], "sample_weight_mode": None}
        ).encode()
        for group in (file, file["model_weights"]):
            group.attrs["keras_version"] = b"2.2.5"
            group.attrs["backend"] = b"tensorflow"
        groups = file["model_weights"]
        if "top_level_model_weights" in groups:
            del groups["top_level_model_weights"]
        for group, key in [(groups, "layer_names"), *((groups[name], "weight_names") for name in groups)]:
            group.attrs[key] = np.array([str(name).encode() for name in group.attrs[key]], dtype="S")
    return path


_SINCE = {"groups", "ragged", "optional", "keepdims"}


def as_keras_2_2_5(config):
    """A model config as Keras 2.2.5 wrote it."""
    kind, inner = config["class_name"], dict(config["config"])
    if kind in ("Functional", "Sequential"):
        nested = {entry["config"]["name"] for entry in inner["layers"] if "layers" in entry["config"]}
        inner = {key: inner[key] for key in ("name", "layers", "input_layers", "output_layers") if key in inner}
        inner["layers"] = [as_keras_2_2_5(entry) for entry in inner["layers"]]
        for entry in inner["layers"]:
            for node in entry.get("inbound_nodes", []):
                # A model inside a model: its making counted as call 0 there.
                node[:] = [
                    [name, max(index, 1) if name in nested else index, which, {}] for name, index, which, _ in node
                ]
        for name, index, which in inner.get("output_layers", []):
            assert name not in nested or index == 1, (name, which)
        return {**config, "class_name": {"Functional": "Model"}.get(kind, kind), "config": inner}
    dtype = inner.pop("dtype", None)
    inner = {key: _old_value(key, value) for key, value in inner.items() if key not in _SINCE}
    if kind == "InputLayer":
        inner["dtype"] = dtype
    if kind == "BatchNormalization":
        inner["axis"] = inner["axis"][0] if isinstance(inner["axis"], list) else inner["axis"]
    return {**config, "config": inner}


def _old_value(key, value):
    if key.endswith("_initializer"):
        old = {"GlorotUniform": ("fan_avg", "uniform", 1.0), "HeNormal": ("fan_in", "normal", 2.0)}
        if value["class_name"] in old:
            mode, distribution, scale = old[value["class_name"]]
            options = {"scale": scale, "mode": mode, "distribution": distribution, "seed": None}
            return {"class_name": "VarianceScaling", "config": options}
        return {"class_name": value["class_name"], "config": value["config"]}
    if key.endswith("_regularizer") and value is not None:
        return {"class_name": "L1L2", "config": {"l1": 0.0, "l2": value["config"]["l2"]}}
    return value
