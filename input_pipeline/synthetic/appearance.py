"""The people of the rendered corpus: shape, skin, hair, clothes, light, all from one seed.

Ours. Sex, age and ethnicity are drawn first; the geometry of the face model is then a random head
corrected by the least change that gives it these attributes, and skin, hair, beard, wrinkles and
clothes are drawn to agree. The modules beside this one make the pieces: `head`, `skin`, `hair`,
`trunk`, `clothes`, `glasses`, `lighting` and `background`. Coordinates are those of
`flax_talk.face_model`, colours are linear light.

The bytes of a speaker depend on the order in which all of them draw from one random generator, and
on the order of additions and multiplications of floats: a change of either is another corpus.
"""

import dataclasses

import numpy as np

from flax_talk.face_model.model import load_default
from input_pipeline.synthetic import renderer
from input_pipeline.synthetic.background import draw_background
from input_pipeline.synthetic.clothes import clothes_meshes, covered, paint_cloth
from input_pipeline.synthetic.glasses import glasses_mesh
from input_pipeline.synthetic.hair import hair_meshes, paint_hair
from input_pipeline.synthetic.head import creases, darken_mouth, head_meshes
from input_pipeline.synthetic.lighting import draw_lights, light_access
from input_pipeline.synthetic.meshes import join
from input_pipeline.synthetic.painting import smooth
from input_pipeline.synthetic.renderer import BODY, CAVITY, FRAME, LASH, TEETH, TONGUE
from input_pipeline.synthetic.skin import paint_skin
from input_pipeline.synthetic.trunk import paint_body, trunk_mesh

HAIR_STYLES = (
    "bald",
    "buzz",
    "short",
    "parted",
    "bob",
    "long",
    "wavy",
    "tied",
    "curly",
)
CLOTHES = ("crew", "v_neck", "shirt", "turtleneck", "jacket")
BEARDS = ("none", "stubble", "moustache", "goatee", "full")

_CLOTHES_ODDS = [0.28, 0.22, 0.2, 0.13, 0.17]
_GLASSES_ODDS = 0.18
_PAINTED_STYLES = ("bald", "buzz")  # too short for a mesh
_EAR_COVERING_STYLES = ("bob", "long", "wavy")

_ETHNICITIES = ("african", "asian", "caucasian")  # of the face model; shares [3] are in this order
_AFRICAN, _ASIAN, _CAUCASIAN = range(3)

# From the lightest to the darkest.
_SKIN_TONES = np.array(
    [
        (0.80, 0.575, 0.465),
        (0.72, 0.48, 0.365),
        (0.60, 0.385, 0.275),
        (0.44, 0.265, 0.175),
        (0.27, 0.15, 0.095),
        (0.14, 0.075, 0.05),
    ],
    np.float32,
)
_MEAN_TONES = (3.9, 1.5, 0.75)  # place among these, by ethnicity
_HAIR_COLOURS = {
    "black": (0.014, 0.012, 0.011),
    "dark brown": (0.034, 0.021, 0.014),
    "brown": (0.075, 0.042, 0.024),
    "light brown": (0.15, 0.09, 0.05),
    "blond": (0.36, 0.25, 0.13),
    "red": (0.20, 0.075, 0.03),
}
_GREY_HAIR = (0.33, 0.32, 0.31)
_DARK_IRISES = {"dark": (0.055, 0.028, 0.014), "brown": (0.13, 0.06, 0.025)}
_LIGHT_IRISES = {
    "hazel": (0.17, 0.11, 0.045),
    "green": (0.12, 0.14, 0.07),
    "blue": (0.13, 0.19, 0.25),
    "grey": (0.17, 0.19, 0.20),
}
_TEETH_COLOUR = (0.72, 0.68, 0.58)
_TONGUE_COLOUR = (0.42, 0.15, 0.14)
_CAVITY_COLOUR = (0.20, 0.05, 0.05)
_LASH_COLOUR = (0.02, 0.015, 0.012)
_FRAME_COLOURS = ((0.01, 0.01, 0.012), (0.06, 0.03, 0.015), (0.25, 0.24, 0.22), (0.03, 0.03, 0.08))

# Odds of the styles, also for people of mostly African features.
_MALE_HAIR = {"short": 4.0, "parted": 2.5, "buzz": 1.2, "bald": 0.5, "curly": 0.6, "long": 0.3}
_BALD_WITH_AGE = 1.0  # more of it
_AFRICAN_MALE_HAIR = {"short": 0.8, "buzz": 3.0, "bald": 1.0, "curly": 2.5}
_FEMALE_HAIR = {
    "bob": 2.5,
    "long": 3.0,
    "wavy": 2.5,
    "tied": 2.0,
    "curly": 0.7,
    "parted": 0.5,
    "short": 0.3,
}
_AFRICAN_FEMALE_HAIR = {"curly": 3.0, "tied": 2.0, "wavy": 1.0, "bob": 0.8, "buzz": 0.5}


@dataclasses.dataclass(frozen=True, eq=False)
class Speaker:
    """One person, ready to render. N vertices, of which the first are those of the face model.

    Attributes:
        seed: what all follows from.
        sex: "female" or "male".
        age: 0 (young adult) to 1 (old).
        hair_style, clothes, beard: see `HAIR_STYLES`, `CLOTHES`, `BEARDS`.
        glasses: whether the person wears them.
        geometry: float32 [199], coefficients of the face model.
        vertices: float32 [N, 3] at rest, dm.
        head_share: float32 [N], 1 where a vertex turns with the head, 0 with the trunk.
        access: float32 [N, 2], share of the ambient and of the key light that arrives.
        creases: float32 [N], share of both that the full dimpler (AU14) keeps away.
        coverage: float32 [N], opacity, which matters for soft triangles.
        triangles: int32 [F, 3], the opaque ones first.
        num_opaque: how many are opaque.
        two_sided: bool [F], drawn from behind too.
        materials: uint8 [F], of `renderer`.
        uv: float32 [F, 3, 2], into the texture of the material.
        textures: uint8 [4, S, S, 4], square roots of linear RGB and gloss or opacity; by material.
        colours: float32 [materials, 3], of materials without texture.
        iris: float32 [3].
        lights: float32 [5, 3]: direction and colour of key and fill, colour of the ambient light.
        background: float32 [h, w, 3].
    """

    seed: int
    sex: str
    age: float
    hair_style: str
    clothes: str
    beard: str
    glasses: bool
    geometry: np.ndarray
    vertices: np.ndarray
    head_share: np.ndarray
    access: np.ndarray
    creases: np.ndarray
    coverage: np.ndarray
    triangles: np.ndarray
    num_opaque: int
    two_sided: np.ndarray
    materials: np.ndarray
    uv: np.ndarray
    textures: np.ndarray
    colours: np.ndarray
    iris: np.ndarray
    lights: np.ndarray
    background: np.ndarray


def make_speaker(seed: int) -> Speaker:
    """The person with this number: the same arrays on every call.

    Args:
        seed: at least 0.
    """
    random = np.random.Generator(np.random.PCG64(seed))
    male = bool(random.random() < 0.5)
    age = float(random.uniform(0, 1) ** 1.7)
    share = random.dirichlet([0.3, 0.3, 0.3])
    geometry = _draw_geometry(random, male, age, share)
    skin = _draw_skin_tone(random, share)
    hair = _draw_hair_colour(random, share, age)
    hair_style = _draw_hair_style(random, male, age, share)
    beard = _draw_beard(random, male, share)
    clothes = CLOTHES[random.choice(len(CLOTHES), p=_CLOTHES_ODDS)]
    glasses = bool(random.random() < _GLASSES_ODDS)
    # How far the hairline recedes, and how low the neckline is.
    raised = random.uniform(-0.03, 0.06) + (0.25 * age * random.random() if male else 0)
    depth = random.uniform(0, 1)

    model = load_default()
    head = (model.mean + model.geometry @ geometry).astype(np.float32)
    parts = head_meshes(head, hair_style in _EAR_COVERING_STYLES, male)
    trunk = trunk_mesh(head, male)
    body = np.concatenate([head, trunk.vertices])
    others = clothes_meshes(body, trunk.triangles, clothes, depth)
    # What cloth hides would show through where it is smoothed.
    *parts, trunk = (
        mesh.only(~covered(body, mesh.triangles, clothes, depth)) if mesh.material == BODY else mesh
        for mesh in (*parts, trunk)
    )
    if hair_style not in _PAINTED_STYLES:
        others += hair_meshes(random, head, hair_style, raised)
    if glasses:
        others.append(glasses_mesh(random, head))
    joined = join(parts, trunk, others)

    bald, buzz = 0.35 * random.random(), random.uniform(0.6, 0.9)
    textures = [
        paint_skin(
            random,
            skin=skin,
            hair=hair,
            male=male,
            age=age,
            fair=share[_CAUCASIAN],
            beard=beard,
            scalp_hair={"bald": bald, "buzz": buzz}.get(hair_style, 1.0),
            raised=raised,
        ),
        paint_body(random, skin),
        paint_hair(random, hair, hair_style),
        paint_cloth(random, clothes, depth),
    ]
    lights = draw_lights(random)
    access = light_access(joined, lights)
    darken_mouth(head, access)
    return Speaker(
        seed=seed,
        sex="male" if male else "female",
        age=age,
        hair_style=hair_style,
        clothes=clothes,
        beard=beard,
        glasses=glasses,
        geometry=geometry,
        access=access.astype(np.float32),
        creases=np.pad(creases(head), (0, len(access) - len(head))),
        textures=np.stack(textures),
        colours=_draw_plain_colours(random),
        iris=_draw_iris(random, share),
        lights=lights,
        background=draw_background(random),
        **joined,
    )


def _draw_geometry(
    random: np.random.Generator, male: bool, age: float, share: np.ndarray
) -> np.ndarray:
    """Coefficients float32 [199] of a random head with given attributes."""
    model = load_default()
    wanted = {"male": random.normal(0.97 if male else 0.03, 0.03), "old": 0.02 + 0.58 * age}
    wanted |= dict(zip(_ETHNICITIES, share, strict=True))
    s = random.standard_normal(model.geometry.shape[-1]) * random.uniform(0.75, 0.95)
    weights = model.attribute_weights.astype(np.float64)
    target = np.array([wanted[name] for name in model.attribute_names])
    # The shares add up to one, which leaves one direction without meaning: cut it off.
    inverse = np.linalg.pinv(weights, rcond=0.02)
    s += inverse @ (target - weights @ s - model.attribute_offsets)
    return s.astype(np.float32)


def _draw_skin_tone(random: np.random.Generator, share: np.ndarray) -> np.ndarray:
    count = len(_SKIN_TONES)
    place = np.clip(share @ _MEAN_TONES + random.normal(0, 0.5), 0, count - 1)
    channels = [np.interp(place, np.arange(count), _SKIN_TONES[:, k]) for k in range(3)]
    warmth = random.normal(0, 0.03)
    return (np.array(channels) * (1 + warmth, 1, 1 - warmth)).astype(np.float32)


def _draw_hair_colour(random: np.random.Generator, share: np.ndarray, age: float) -> np.ndarray:
    fair = share[_CAUCASIAN] ** 2
    # As the colours are listed.
    odds = [0.9 - 0.75 * fair, 0.6, 0.1 + 0.6 * fair, 0.5 * fair, 0.5 * fair, 0.15 * fair]
    colour = np.array(_HAIR_COLOURS[_choose(random, dict(zip(_HAIR_COLOURS, odds, strict=True)))])
    colour *= random.uniform(0.8, 1.25)
    grey = smooth(0.55, 1.05, np.array(age + random.normal(0, 0.15)))
    return (colour + grey * (np.array(_GREY_HAIR) - colour)).astype(np.float32)


def _draw_iris(random: np.random.Generator, share: np.ndarray) -> np.ndarray:
    light = share[_CAUCASIAN] > 0.6 and random.random() < 0.65
    colours = list((_LIGHT_IRISES if light else _DARK_IRISES).values())
    colour = np.array(colours[random.integers(len(colours))], np.float32)
    return colour * np.float32(random.uniform(0.85, 1.2))


def _draw_hair_style(random: np.random.Generator, male: bool, age: float, share: np.ndarray) -> str:
    if share[_AFRICAN] > 0.5:
        return _choose(random, _AFRICAN_MALE_HAIR if male else _AFRICAN_FEMALE_HAIR)
    if male:
        return _choose(random, _MALE_HAIR | {"bald": _MALE_HAIR["bald"] + _BALD_WITH_AGE * age})
    return _choose(random, _FEMALE_HAIR)


def _draw_beard(random: np.random.Generator, male: bool, share: np.ndarray) -> str:
    if not male:
        return "none"
    asian = share[_ASIAN]
    odds = [2.5 + 2 * asian, 2.5, 0.5, 0.8, 1.3 * (1 - 0.6 * asian)]
    return _choose(random, dict(zip(BEARDS, odds, strict=True)))


def _draw_plain_colours(random: np.random.Generator) -> np.ndarray:
    """Colours float32 [materials, 3] of the materials without a texture."""
    colours = np.zeros((renderer.NUM_MATERIALS, 3), np.float32)
    colours[TEETH] = np.array(_TEETH_COLOUR) * random.uniform(0.85, 1.1)
    colours[TONGUE] = _TONGUE_COLOUR
    colours[CAVITY] = _CAVITY_COLOUR
    colours[LASH] = _LASH_COLOUR
    colours[FRAME] = _FRAME_COLOURS[random.integers(len(_FRAME_COLOURS))]
    return colours


def _choose(random: np.random.Generator, odds: dict[str, float]) -> str:
    """One of the names, by its odds, which need not add up to 1."""
    values = np.array(list(odds.values()))
    return list(odds)[random.choice(len(odds), p=values / values.sum())]
