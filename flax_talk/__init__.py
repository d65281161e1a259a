"""Audio-driven talking faces in JAX: networks, losses, systems, training and metrics."""

__version__ = "0.1.0"
