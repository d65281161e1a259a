"""Identity: whether the generated face is still that of the person in the still.

ACD, the average content distance of Tulyakov et al., "MoCoGAN", 2018, as Vougioukas et al. use it
("End-to-End Speech-Driven Facial Animation with Temporal GANs", 2018, section 4.2; "Realistic
Speech-Driven Facial Animation with GANs", 2019, section 5): the mean Euclidean distance between
the embedding of the still and those of the generated frames. Both papers embed with OpenFace's
network, which only Torch 7 reads; ours: dlib's, and any that is added to `EMBEDDERS`.

Distances of different embedders do not compare. Those of the papers (near 1e-4 for one person)
are far below Euclidean distances of unit embeddings, so they are on a scale of their own.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from flax_talk.errors import UserError
from input_pipeline.faces import DlibEmbedder, Embedder


def average_content_distance(
    still: jax.Array, frames: jax.Array, mask: jax.Array | None = None
) -> jax.Array:
    """ACD of each video: 0 where every frame has the embedding of the still.

    Args:
        still: [..., D] embeddings of the stills.
        frames: [..., T, D] embeddings of the frames, by the same embedder.
        mask: bool [..., T], valid frames; all by default.

    Returns:
        [...], in the unit of the embeddings; NaN without a valid frame.
    """
    distances = jnp.linalg.norm(frames - still[..., None, :], axis=-1)
    return distances.mean(axis=-1, where=mask)


def _openface() -> Embedder:
    raise UserError(
        "embedder openface (nn4.small2.v1.t7) runs in Torch 7 only: choose dlib, or compute "
        "embeddings with OpenFace and give them to average_content_distance"
    )


EMBEDDERS: dict[str, Callable[[], Embedder]] = {"dlib": DlibEmbedder, "openface": _openface}
"""Embedder constructors by name; add to it to bring another one."""


@functools.cache
def get_embedder(name: str = "dlib") -> Embedder:
    """The embedder registered under `name`, built at the first call and then shared.

    Raises:
        UserError: an unknown name, or an embedder that is not installed.
    """
    if name not in EMBEDDERS:
        raise UserError(f"unknown embedder {name!r}: choose one of {sorted(EMBEDDERS)}")
    return EMBEDDERS[name]()
