"""Audio-driven talking faces in JAX: networks, losses, systems, training and metrics.

`load`, `Talker` and `Video` are those of `flax_talk.api`, which is imported, and jax with it, when
one of them is first asked for.
"""

from typing import TYPE_CHECKING, Any

from flax_talk.errors import UserError

if TYPE_CHECKING:
    from flax_talk.api import Talker, Video, load

__version__ = "0.1.0"
__all__ = ["Talker", "UserError", "Video", "load"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'flax_talk' has no attribute {name!r}")
    from flax_talk import api

    return getattr(api, name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
