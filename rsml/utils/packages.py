"""Packages that not everyone installs: who needs them, and what to say where they are missing."""

import importlib.util

from rsml.utils.errors import UserError

EXTRAS = {
    "faiss": "retrieval",
    "rasterio": "raster",
    "tf2onnx": "export",
    "onnx": "export",
    "onnxruntime": "export",
    "fastapi": "app",
    "uvicorn": "app",
    "multipart": "app",
    "prometheus_client": "app",
}
"""The extra of pyproject.toml that brings a package; what is not here is of the core."""


def missing(package: str) -> UserError:
    """The fault that a package is not there, and how to get it."""
    extra = EXTRAS.get(package)
    wanted = f"'rsml[{extra}]'" if extra else package
    return UserError(f"the package {package} is not installed; get it with: pip install {wanted}")


def require(*packages: str) -> None:
    """Refuses to go on without packages; nothing is imported."""
    for package in packages:
        if importlib.util.find_spec(package) is None:
            raise missing(package)
