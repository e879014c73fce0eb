"""One small network in four ways, and one transformer in three: the same weights, the same answers.

The functions are written by hand, so they are the reference for what the frameworks are cut to.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

SIZE, CLASSES, WIDTH = 16, 4, 5
IMAGES = np.random.default_rng(0).standard_normal((3, SIZE, SIZE, 3)).astype(np.float32)


def drawn(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32) / 3


KERNELS = drawn(1, 3, 3, 3, WIDTH), drawn(2, 3, 3, WIDTH, WIDTH)
HEAD = drawn(3, WIDTH, CLASSES)


def convolved(x, kernel, stride):
    lax = jax.lax.conv_general_dilated
    return lax(
        x, kernel, (stride, stride), ((1, 1), (1, 1)), dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def features(images):
    return jax.nn.relu(convolved(images, KERNELS[0], 2))


def classify(found):
    """A residual branch: what is behind `features` is no bottleneck for the branch."""
    branch = jax.nn.gelu(convolved(found, KERNELS[1], 1))
    return (found + branch).mean((1, 2)) @ HEAD


def classify_branch(branch, images=IMAGES):
    return (features(images) + jax.nn.gelu(branch)).mean((1, 2)) @ HEAD


class Stem(nn.Module):
    """In Linen, with a BatchNorm that changes nothing in evaluation, and a dropout."""

    @nn.compact
    def __call__(self, images, train: bool):
        x = nn.Conv(WIDTH, (3, 3), 2, padding=1, use_bias=False, name="first")(images)
        x = nn.BatchNorm(not train, epsilon=0.0, name="norm")(x)
        x = Relu(name="features")(x)
        y = nn.Conv(WIDTH, (3, 3), padding=1, use_bias=False, name="branch")(x)
        x = nn.Dropout(0.5, deterministic=not train)(x + nn.gelu(y))
        return nn.Dense(CLASSES, use_bias=False, name="head")(x.mean((1, 2)))


class Relu(nn.Module):
    def __call__(self, x):
        return nn.relu(x)


LINEN = Stem()
VARIABLES = {
    "params": {
        "first": {"kernel": KERNELS[0]}, "branch": {"kernel": KERNELS[1]},
        "head": {"kernel": HEAD}, "norm": {"scale": np.ones(WIDTH), "bias": np.zeros(WIDTH)},
    },
    "batch_stats": {"norm": {"mean": np.zeros(WIDTH), "var": np.ones(WIDTH)}},
}  # fmt: skip


class Module(nnx.Module):
    """In NNX, in training mode, as it is made."""

    def __init__(self):
        rngs = nnx.Rngs(0)
        conv = {"kernel_size": (3, 3), "padding": 1, "use_bias": False, "rngs": rngs}
        self.blocks = nnx.List([nnx.Conv(3, WIDTH, strides=2, **conv)])
        self.norm = nnx.BatchNorm(WIDTH, epsilon=0.0, rngs=rngs)
        self.features = NNXRelu()
        self.branch = nnx.Conv(WIDTH, WIDTH, **conv)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)
        self.head = nnx.Linear(WIDTH, CLASSES, use_bias=False, rngs=rngs)
        self.blocks[0].kernel[...], self.branch.kernel[...] = KERNELS
        self.head.kernel[...] = HEAD

    def __call__(self, images):
        x = self.features(self.norm(self.blocks[0](images)))
        return self.head(self.dropout(x + nnx.gelu(self.branch(x))).mean((1, 2)))


class NNXRelu(nnx.Module):
    def __call__(self, x):
        return nnx.relu(x)


# The transformer: patches of 4 pixels, a class token, two blocks of two heads.

TOKENS, WIDE, HEADS = 1 + (SIZE // 4) ** 2, 8, 2


class Block(nn.Module):
    @nn.compact
    def __call__(self, x):
        y = nn.LayerNorm(name="norm1")(x)
        x = x + nn.MultiHeadDotProductAttention(HEADS, name="attention")(y)
        y = nn.LayerNorm(name="norm2")(x)
        return x + nn.Dense(WIDE, name="mlp")(nn.gelu(y))


class ViT(nn.Module):
    """With a class token, which alone is classified."""

    @nn.compact
    def __call__(self, images):
        x = nn.Conv(WIDE, (4, 4), 4, name="patches")(images).reshape(len(images), -1, WIDE)
        first = self.param("class", nn.initializers.normal(1.0), (1, 1, WIDE))
        x = jnp.concatenate([jnp.broadcast_to(first, (len(images), 1, WIDE)), x], axis=1)
        x = x + self.param("places", nn.initializers.normal(1.0), (1, TOKENS, WIDE))
        for i in range(2):
            x = Block(name=f"block{i}")(x)
        return nn.Dense(CLASSES, name="head")(nn.LayerNorm(name="norm")(x)[:, 0])


class NNXBlock(nnx.Module):
    def __init__(self, rngs):
        self.norm1, self.norm2 = (nnx.LayerNorm(WIDE, rngs=rngs) for _ in range(2))
        self.attention = nnx.MultiHeadAttention(HEADS, WIDE, decode=False, rngs=rngs)
        self.mlp = nnx.Linear(WIDE, WIDE, rngs=rngs)

    def __call__(self, x):
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(nnx.gelu(self.norm2(x)))


class NNXViT(nnx.Module):
    """Without a class token: the mean over the tokens is classified."""

    def __init__(self):
        rngs = nnx.Rngs(0)
        self.patches = nnx.Conv(3, WIDE, (4, 4), 4, rngs=rngs)
        self.blocks = nnx.List([NNXBlock(rngs) for _ in range(2)])
        self.norm = nnx.LayerNorm(WIDE, rngs=rngs)
        self.head = nnx.Linear(WIDE, CLASSES, rngs=rngs)

    def __call__(self, images):
        x = self.patches(images).reshape(len(images), -1, WIDE)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x).mean(axis=1))


def equinox_module():
    """The convolutional network in Equinox: one image, channels first."""
    import equinox as eqx

    class Module(eqx.Module):
        first: eqx.nn.Conv2d
        layers: list
        head: eqx.nn.Linear
        dropout: eqx.nn.Dropout

        def __init__(self, key):
            conv = {"kernel_size": 3, "padding": 1, "use_bias": False, "key": key}
            self.first = eqx.nn.Conv2d(3, WIDTH, stride=2, **conv)
            self.layers = [eqx.nn.Lambda(jax.nn.relu), eqx.nn.Conv2d(WIDTH, WIDTH, **conv)]
            self.head = eqx.nn.Linear(WIDTH, CLASSES, use_bias=False, key=key)
            self.dropout = eqx.nn.Dropout(0.5)

        def __call__(self, image, *, key):
            x = self.layers[0](self.first(image))
            x = self.dropout(x + jax.nn.gelu(self.layers[1](x)), key=key)
            return self.head(x.mean((1, 2)))

    module = Module(jax.random.key(0))
    first, second = (jnp.asarray(kernel.transpose(3, 2, 0, 1)) for kernel in KERNELS)
    return eqx.tree_at(
        lambda m: (m.first.weight, m.layers[1].weight, m.head.weight), module,
        (first, second, jnp.asarray(HEAD.T)),
    )  # fmt: skip


def equinox_vit():
    """The transformer in Equinox: norms and dense layers of one token, called under vmap."""
    import equinox as eqx

    class Block(eqx.Module):
        norm1: eqx.nn.LayerNorm
        attention: eqx.nn.MultiheadAttention

        def __call__(self, x):
            y = jax.vmap(self.norm1)(x)
            return x + self.attention(y, y, y)

    class ViT(eqx.Module):
        patches: eqx.nn.Conv2d
        blocks: list
        head: eqx.nn.Linear

        def __call__(self, image):
            x = self.patches(image).reshape(WIDE, -1).T
            for block in self.blocks:
                x = block(x)
            return self.head(x.mean(axis=0))

    keys = jax.random.split(jax.random.key(0), 4)
    blocks = [
        Block(eqx.nn.LayerNorm(WIDE), eqx.nn.MultiheadAttention(HEADS, WIDE, key=key))
        for key in keys[:2]
    ]
    patches = eqx.nn.Conv2d(3, WIDE, 4, 4, key=keys[2])
    return ViT(patches, blocks, eqx.nn.Linear(WIDE, CLASSES, key=keys[3]))
