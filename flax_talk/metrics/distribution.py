"""Distribution measures: how near generated frames as a whole are to real ones.

FID, the Frechet inception distance of Heusel et al., "GANs Trained by a Two Time-Scale Update Rule
Converge to a Local Nash Equilibrium", 2017, and IS, the inception score of Salimans et al.,
"Improved Techniques for Training GANs", 2016, as Song et al., "Everybody's Talkin'", 2020, report
them. Both are statistics of what an Inception network says of the frames: the functions take its
outputs, features for FID and logits for IS, which `flax_talk.nets.inception` computes with weights
from a file of the user's. Values depend on those weights: name them beside each.
"""

import numpy as np

from flax_talk.errors import UserError


def frechet_distance(features: np.ndarray, reference: np.ndarray) -> float:
    """Squared Frechet distance of two sets of features; FID for those of Inception's last pooling.

    As of Gaussians with means m and unbiased covariances C: |m1 - m2|^2 + tr(C1 + C2 -
    2 (C1 C2)^(1/2)). It depends on the number of frames, even in expectation, and with fewer than D
    of them a covariance is singular: report the number beside it, and compare equal ones only.

    Args:
        features, reference: [N, D] and [M, D], at least 2 of each.

    Returns:
        0 for equal means and covariances, in the squared unit of the features.

    Raises:
        UserError: other shapes, or values that are not finite.
    """
    means, covariances = [], []
    for array in (features, reference):
        array = _checked(array, "features")
        means.append(array.mean(axis=0))
        covariances.append(np.atleast_2d(np.cov(array, rowvar=False)))
    one, other = covariances
    if one.shape != other.shape:
        raise UserError(
            f"features of {len(one)} and of {len(other)} numbers do not compare: "
            "compute both with the same network"
        )
    # The trace of a root is the sum of the roots of the eigenvalues, and those of C1 C2 are also
    # those of the symmetric C1^(1/2) C2 C1^(1/2), which rounding leaves real.
    values, vectors = np.linalg.eigh(one)
    root = vectors * np.sqrt(np.maximum(values, 0)) @ vectors.T
    products = np.linalg.eigvalsh(root @ other @ root)
    trace = np.trace(one) + np.trace(other) - 2 * np.sqrt(np.maximum(products, 0)).sum()
    return float(np.square(means[0] - means[1]).sum() + trace)


def inception_score(logits: np.ndarray, splits: int = 10) -> tuple[float, float]:
    """Inception score: exp(mean KL(p(y|x) || p(y))), as mean and deviation over parts of the set.

    Args:
        logits: [N, C] class scores before the softmax, in an order without pattern. The authors'
            code leaves out the biases of the last layer: for its values subtract them first.
        splits: number of parts of nearly equal size; the paper's 10.

    Returns:
        Mean over the parts, 1 to C, and their standard deviation.

    Raises:
        UserError: another shape, values that are not finite, or fewer frames than parts.
    """
    logits = _checked(logits, "logits")
    if len(logits) < splits:
        raise UserError(f"inception score in {splits} parts of {len(logits)} frames: give more")
    logs = logits - logits.max(axis=1, keepdims=True)
    logs -= np.log(np.exp(logs).sum(axis=1, keepdims=True))
    scores = []
    for part in np.array_split(logs, splits):
        mean = np.exp(part).mean(axis=0)
        # A class without any probability adds nothing.
        log_mean = np.log(np.where(mean > 0, mean, 1))
        scores.append(np.exp((np.exp(part) * (part - log_mean)).sum(axis=1).mean()))
    return float(np.mean(scores)), float(np.std(scores))


def _checked(array: np.ndarray, name: str) -> np.ndarray:
    array = np.asarray(array)
    if array.ndim != 2 or len(array) < 2 or array.dtype.kind not in "fiu":
        raise UserError(
            f"{name} of shape {array.shape}, type {array.dtype}: give numbers [N, D], N at least 2"
        )
    array = array.astype(np.float64)
    if not np.isfinite(array).all():
        raise UserError(f"{name} has values that are not finite: compute it again")
    return array
