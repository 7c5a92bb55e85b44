"""Hand a trained model to programs without Keras: SavedModel, TFLite and ONNX, each checked on real images."""
