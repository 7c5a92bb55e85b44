"""Squeeze-and-excitation: channel attention from two dense layers on the globally averaged channels (SE-Net)."""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable("rsml")
class SqueezeExcite(keras.layers.Layer):
    """Weights the channels of feature maps by two dense layers on their global averages.

    Args:
        ratio: the hidden layer has `channels // ratio` units, one at the least.
        use_bias: whether the dense layers have biases.
        activation: activation of the hidden layer.
        gate: activation of the weights.
        kernel_initializer: initializer of both kernels.
        **kwargs: arguments of `keras.layers.Layer`.

    Input shape: feature maps `(batch, height, width, channels)` or tokens `(batch, tokens, channels)`, the channels
    last and known; the other sizes may be unknown.

    Output shape: the same.

    Examples:
        >>> SqueezeExcite(ratio=4)(np.ones((1, 8, 8, 16))).shape
        TensorShape([1, 8, 8, 16])

    Reference:
        Hu et al., Squeeze-and-Excitation Networks, CVPR 2018.
    """

    def __init__(
        self,
        ratio: int = 16,
        use_bias: bool = True,
        activation: str | Callable | None = "relu",
        gate: str | Callable | None = "sigmoid",
        kernel_initializer: str | keras.initializers.Initializer = "glorot_uniform",
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if not isinstance(ratio, int) or ratio < 1:
            raise ValueError(f"SqueezeExcite: expected ratio to be a positive integer, got {ratio!r}")
        self.ratio = ratio
        self.use_bias = use_bias
        self.activation = keras.activations.get(activation)
        self.gate = keras.activations.get(gate)
        self.kernel_initializer = keras.initializers.get(kernel_initializer)

    def build(self, input_shape: Any) -> None:
        if len(input_shape) < 3 or input_shape[-1] is None:
            raise ValueError(
                "SqueezeExcite: expected feature maps (batch, height, width, channels) or tokens (batch, tokens, "
                f"channels) with known channels, got {tuple(input_shape)}; insert it after a layer with channels"
            )
        channels = input_shape[-1]
        hidden = max(1, channels // self.ratio)
        options = {"use_bias": self.use_bias, "dtype": self.dtype_policy}
        self.squeeze = keras.layers.Dense(
            hidden, self.activation, kernel_initializer=self.kernel_initializer.clone(), name="squeeze", **options
        )
        self.excite = keras.layers.Dense(
            channels, self.gate, kernel_initializer=self.kernel_initializer.clone(), name="excite", **options
        )
        self.squeeze.build((None, channels))
        self.excite.build((None, hidden))

    def call(self, inputs: Any) -> Any:
        z = ops.mean(inputs, axis=tuple(range(1, len(inputs.shape) - 1)), keepdims=True)
        return inputs * self.excite(self.squeeze(z))

    def compute_output_shape(self, input_shape: Any) -> tuple:
        return tuple(input_shape)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "ratio": self.ratio,
            "use_bias": self.use_bias,
            "activation": keras.activations.serialize(self.activation),
            "gate": keras.activations.serialize(self.gate),
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }
