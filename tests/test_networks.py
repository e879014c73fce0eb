"""Networks of any framework, cut at any layer: each against the same network written by hand."""

from importlib.util import find_spec

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx

from lficam_jax.errors import UserError
from lficam_jax.interop.networks import name_of, network_of
from lficam_jax.interop.networks.cut import Cut
from lficam_jax.interop.networks.grids import token_grid
from lficam_jax.methods import Split, draw
from tests import networks
from tests.networks import CLASSES, IMAGES, LINEN, SIZE, VARIABLES, classify, features

SHAPE = IMAGES.shape[1:]
needs_equinox = pytest.mark.skipif(not find_spec("equinox"), reason="no requirement")


def cut(network, *beside, layer=(), **options):
    found, weights = network_of(network, beside, SHAPE)
    layers = (layer,) if isinstance(layer, str) else layer
    return Cut(found, layers, **options), weights


def split(*network, images=IMAGES, **options):
    source, weights = cut(*network, **options)
    return source.splits(weights, jnp.asarray(images))[0]


# The layers behind the stem and of the branch, and their channels' axis, in each framework.
WAYS = {
    "linen": (lambda: (LINEN, VARIABLES), "features", "branch"),
    "nnx": (lambda: (networks.Module(),), "features", "branch"),
    "equinox": (lambda: (networks.equinox_module(),), "layers/0", "layers/1"),
    "functions": (lambda: ((features, classify),), "features", None),
}
EACH = [pytest.param(name, marks=needs_equinox if name == "equinox" else ()) for name in WAYS]


@pytest.mark.parametrize("way", EACH)
def test_a_network_of_any_framework_is_cut_like_the_one_written_by_hand(way):
    made, layer, _ = WAYS[way]
    source, weights = cut(*made(), layer=layer)

    @jax.jit
    def ours(weights, images):
        (found,) = source.splits(weights, images)
        changed = found.features.at[:, 2, 3].set(0)
        return {
            "features": found.features, "logits": found.logits,
            "same": found.classify(found.features), "changed": found.classify(changed),
            "slope": found.gradient(jnp.array([1, 1, 1])), "one": found.network(images[:1]),
            "again": found.again(images[::-1]).features,
        }  # fmt: skip

    @jax.jit
    def by_hand(images):
        found = features(images)
        return {
            "features": found, "logits": classify(found), "same": classify(found),
            "changed": classify(found.at[:, 2, 3].set(0)), "one": classify(found[:1]),
            "slope": jax.grad(lambda f: classify(f)[:, 1].sum())(found), "again": found[::-1],
        }  # fmt: skip

    expected = by_hand(IMAGES)
    for name, value in ours(weights, IMAGES).items():
        np.testing.assert_allclose(value, expected[name], atol=1e-5, err_msg=name)


@pytest.mark.parametrize("way", EACH[:3])
def test_a_branch_is_cut_while_the_rest_of_the_image_goes_its_way(way):
    """What is replaced is one branch of a sum: the other still comes from the image."""
    made, _, layer = WAYS[way]
    source, weights = cut(*made(), layer=layer)
    other, index = jnp.asarray(networks.drawn(7, 3, 8, 8, networks.WIDTH)), jnp.array([2, 0, 2, 1])

    def seen(found):
        names = ("grad_cam", "ablation_cam", "score_cam")
        maps = {name: draw(name, found, 1) for name in names}
        changed = found.answers_of(other[index], index)
        return maps | {"other": found.classify(other), "some": changed}

    ours = jax.jit(lambda w, x: seen(source.splits(w, x)[0]))(weights, IMAGES)
    expected = jax.jit(lambda x: seen(hand_made_branch(x)))(IMAGES)
    for name, value in ours.items():
        np.testing.assert_allclose(value, expected[name], atol=1e-4, err_msg=name)


def hand_made_branch(images):
    return Split(
        networks.convolved(features(images), networks.KERNELS[1], 1),
        lambda f: networks.classify_branch(f, images),
        images=images,
        network=lambda x: classify(features(x)),
        classify_some=lambda f, index: networks.classify_branch(f, images[index]),
    )


def test_a_network_in_training_mode_is_evaluated_and_stays_as_it_was():
    module = networks.Module()
    module.norm.mean[...] = jnp.full(networks.WIDTH, 0.5)
    before = jax.tree.map(np.asarray, nnx.state(module, nnx.Param, nnx.BatchStat))
    found = split(module, layer="norm")
    first = networks.convolved(IMAGES, networks.KERNELS[0], 2)
    np.testing.assert_allclose(found.features, first - 0.5, atol=1e-5)  # the running mean
    after = nnx.state(module, nnx.Param, nnx.BatchStat)
    jax.tree.map(np.testing.assert_array_equal, before, after)
    assert not module.norm.use_running_average and not module.dropout.deterministic
    assert type(module.branch) is nnx.Conv and type(module.norm) is nnx.BatchNorm


def test_a_linen_network_that_can_only_train_is_told():
    class Trains(nn.Module):
        @nn.compact
        def __call__(self, images):
            return nn.BatchNorm(use_running_average=False)(images).mean((1, 2))

    variables = Trains().init(jax.random.key(0), IMAGES)
    with pytest.raises(UserError, match="Trains is in training mode.*use_running_average=True"):
        cut(Trains(), variables)


def test_layers_are_named_as_the_framework_names_them():
    module = networks.Module()
    same = ("blocks/0", "blocks[0]", "blocks.0", module.blocks[0])
    assert {name_of(module, layer) for layer in same} == {"blocks/0"}
    found, weights = network_of(module, (), SHAPE)
    program = found.program(weights, IMAGES)
    assert [*program.layers] == [
        "blocks/0", "norm", "features", "branch", "dropout", "head",
    ]  # fmt: skip
    for thing in (networks.Module().branch, 3, None):
        with pytest.raises(UserError, match="a submodule of the network itself"):
            name_of(module, thing)


@needs_equinox
def test_an_equinox_layer_may_be_the_submodule_itself():
    module = networks.equinox_module()
    assert name_of(module, module.layers[1]) == "layers/1"


def test_a_layer_that_is_called_twice_has_two_names():
    class Twice(nn.Module):
        @nn.compact
        def __call__(self, x):
            conv = nn.Conv(3, (3, 3), name="conv")
            return conv(conv(x)).mean((1, 2))

    variables = Twice().init(jax.random.key(0), IMAGES)
    first, second = (split(Twice(), variables, layer=n) for n in ("conv", "conv#2"))
    kernel = variables["params"]["conv"]["kernel"]
    np.testing.assert_allclose(
        second.features, networks.convolved(first.features, kernel, 1), atol=1e-5
    )
    np.testing.assert_allclose(second.classify(second.features), first.logits, atol=1e-5)


class Block(nn.Module):
    """A layer that a scan repeats."""

    @nn.compact
    def __call__(self, x, _):
        return nn.relu(x + nn.Conv(4, (3, 3))(x)), x.mean()


class Scanned(nn.Module):
    """A stem, and blocks of weights of their own within `nn.scan`."""

    length: int

    @nn.compact
    def __call__(self, x):
        x = nn.Conv(4, (3, 3), 2, name="stem")(x)
        axes = {"variable_axes": {"params": 0}, "split_rngs": {"params": True}}
        x, means = nn.scan(Block, **axes, length=self.length)(name="blocks")(x, None)
        return nn.Dense(3)(x.mean((1, 2))) + means.sum()


def test_layers_within_a_scan_are_seen_turn_by_turn():
    """The map behind the second of three blocks is that of the blocks written one by one."""
    model = Scanned(3)
    variables = model.init(jax.random.key(0), IMAGES)
    source, weights = cut(model, variables, layer="blocks[1]")
    names = list(source.network.program(weights, jnp.asarray(IMAGES)).layers)
    assert names[:4] == ["stem", "blocks/Conv_0[0]", "blocks[0]", "blocks/Conv_0[1]"]
    params = variables["params"]

    def block(i, x):
        kernel = jax.tree.map(lambda leaf: leaf[i], params["blocks"]["Conv_0"])
        return nn.relu(x + nn.Conv(4, (3, 3)).apply({"params": kernel}, x))

    stem = nn.Conv(4, (3, 3), 2).apply({"params": params["stem"]}, IMAGES)
    first = block(0, stem)
    before = stem.mean() + first.mean()

    def classify(x):
        answers = nn.Dense(3).apply({"params": params["Dense_0"]}, block(2, x).mean((1, 2)))
        return answers + before + x.mean()

    hand = Split(block(1, first), classify, logits=classify(block(1, first)))
    (ours,) = source.splits(weights, jnp.asarray(IMAGES))
    np.testing.assert_allclose(ours.features, hand.features, atol=1e-5)
    np.testing.assert_allclose(ours.logits, model.apply(variables, IMAGES), atol=1e-5)
    target = jnp.array([0, 1, 2])
    np.testing.assert_allclose(ours.gradient(target), hand.gradient(target), atol=1e-6)


def test_the_blocks_of_a_scanned_transformer_are_its_turns():
    """Run in reverse, its last block is turn 0; the attention of all three is rolled out."""

    class Encoder(nn.Module):
        @nn.compact
        def __call__(self, x, _):
            y = nn.LayerNorm(name="first")(x)
            x = x + nn.MultiHeadDotProductAttention(num_heads=2)(y, y)
            return x + nn.Dense(8)(nn.LayerNorm(name="second")(x)), None

    class Transformer(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.Conv(8, (4, 4), 4, name="patch")(x).reshape(len(x), -1, 8)
            axes = {"variable_axes": {"params": 0}, "split_rngs": {"params": True}}
            scan = nn.scan(Encoder, **axes, length=3, reverse=True)(name="blocks")
            return nn.Dense(3)(scan(x, None)[0].mean(axis=1))

    variables = Transformer().init(jax.random.key(0), IMAGES)
    source, weights = cut(Transformer(), variables)
    program = source.network.program(weights, jnp.asarray(IMAGES))
    assert list(source.grids(program)) == ["blocks/first[0]"]
    (found,) = source.splits(weights, jnp.asarray(IMAGES))
    assert len(found.attentions) == 3 and draw("attention_rollout", found).shape == (3, 4, 4)


def test_a_loop_that_is_not_written_out_is_run_as_it_is():
    """A scan of 65 turns, and a choice between layers, have no layers, but gradients pass them."""
    model = Scanned(65)
    variables = model.init(jax.random.key(0), IMAGES)
    source, weights = cut(model, variables, layer="stem")
    assert list(source.network.program(weights, jnp.asarray(IMAGES)).layers) == ["stem", "Dense_0"]
    (ours,) = source.splits(weights, jnp.asarray(IMAGES))
    slope = ours.gradient(jnp.array([0, 1, 2]))
    assert np.isfinite(slope).all() and np.abs(slope).max() > 0

    class Choice(nn.Module):
        def setup(self):
            self.stem, self.one, self.two = nn.Conv(4, (3, 3), 2), nn.Dense(3), nn.Dense(3)

        def __call__(self, x):
            x = self.stem(x).mean((1, 2))
            if self.is_initializing():
                return self.one(x) + self.two(x)
            ways = (lambda net, x: net.one(x)), (lambda net, x: net.two(x))
            return nn.cond(x.sum() > 0, *ways, self, x)

    variables = Choice().init(jax.random.key(0), IMAGES)
    found = split(Choice(), variables, layer="stem")
    np.testing.assert_allclose(found.logits, Choice().apply(variables, IMAGES), atol=1e-5)
    assert np.isfinite(found.gradient(jnp.array([0, 1, 2]))).all()


def test_cells_lie_where_the_layers_look():
    """A stride of 2 with one pixel of padding: cell 0 looks at the pixels around pixel 0."""
    source, weights = cut(LINEN, VARIABLES, layer="branch")
    ((grid, place),) = source.lie(weights, SHAPE, "centres")[0].items()
    assert grid == (8, 8) and place.rows == (0.5 / SIZE, 2 / SIZE)
    assert source.lie(weights, SHAPE, "half_pixel") == [{}]


# Transformers


@pytest.fixture(scope="module")
def vit():
    model = networks.ViT()
    return model, jax.jit(model.init)(jax.random.key(3), IMAGES)


def test_a_transformer_is_cut_at_the_first_norm_of_its_last_block(vit):
    """By hand: flax's own modules, from that norm on."""
    source, weights = cut(*vit)
    (found,) = source.splits(weights, jnp.asarray(IMAGES))
    assert list(source.grids(source.network.program(weights, IMAGES))) == ["block1/norm1"]
    assert found.features.shape == (3, 4, 4, networks.WIDE)
    params, seen = vit[1]["params"], vit[0].apply(vit[1], IMAGES, capture_intermediates=True)[1]
    block, tokens = params["block1"], seen["intermediates"]["block1"]["norm1"]["__call__"][0]
    before = seen["intermediates"]["block0"]["__call__"][0]

    def rest(tokens):
        attend = nn.MultiHeadDotProductAttention(networks.HEADS)
        x = before + attend.apply({"params": block["attention"]}, tokens)
        y = nn.LayerNorm().apply({"params": block["norm2"]}, x)
        x = x + nn.Dense(networks.WIDE).apply({"params": block["mlp"]}, nn.gelu(y))
        x = nn.LayerNorm().apply({"params": params["norm"]}, x)
        return nn.Dense(CLASSES).apply({"params": params["head"]}, x[:, 0])

    slope = jax.grad(lambda t: rest(t)[:, 2].sum())(tokens)
    np.testing.assert_allclose(found.logits, rest(tokens), atol=1e-5)
    np.testing.assert_allclose(found.features.reshape(3, 16, -1), tokens[:, 1:], atol=1e-6)
    ours = found.gradient(jnp.full(3, 2)).reshape(3, 16, -1)
    np.testing.assert_allclose(ours, slope[:, 1:], atol=1e-5)
    assert np.abs(ours).max() > 1e-4


def test_attention_rollout_is_the_product_of_what_flax_sows(vit):
    """Abnar and Zuidema: half of each block's mean attention, half the identity."""
    found = split(*vit)
    rolled = np.eye(networks.TOKENS)
    for weights in found.attentions:
        mean = np.asarray(weights).mean(axis=1)
        np.testing.assert_allclose(mean.sum(axis=-1), 1, atol=1e-5)
        rolled = (mean + np.eye(networks.TOKENS)) / 2 @ rolled
    assert len(found.attentions) == 2
    expected = rolled[:, 0, 1:].reshape(3, 4, 4)
    low, high = (f(expected, axis=(1, 2), keepdims=True) for f in (np.min, np.max))
    ours = draw("attention_rollout", found)
    np.testing.assert_allclose(ours, (expected - low) / (high - low), atol=1e-4)


def test_the_attention_that_is_read_is_the_one_that_is_used(vit):
    """Flax sows the weights itself: an independent reading of the same numbers."""
    found = split(*vit)
    block, norm = vit[1]["params"]["block1"], split(*vit, layer="block1/norm1")
    # The whole layer with its class token, which the map leaves out.
    program = network_of(vit[0], vit[1:], SHAPE)[0].program(vit[1], IMAGES)
    tokens = program.run(vit[1], jnp.asarray(IMAGES), ("block1/norm1",))[1]["block1/norm1"]
    attend = nn.MultiHeadDotProductAttention(networks.HEADS)
    sown = attend.apply(
        {"params": block["attention"]}, tokens, sow_weights=True, mutable=["intermediates"]
    )[1]["intermediates"]["attention_weights"][0]
    np.testing.assert_allclose(found.attentions[1], sown, atol=1e-5)
    assert norm.attentions is not None


def test_gradient_rollout_adds_what_speaks_for_the_class(vit):
    """Chefer et al., by the equations, with gradients by finite differences of the answers."""
    found = split(*vit)
    first, second = (np.asarray(one, np.float64) for one in found.attentions)

    def answer(weights):
        return np.asarray(found.weighing(tuple(map(jnp.float32, weights))))[0, 1]

    step, rows = 1e-2, np.eye(networks.TOKENS)
    for layer, weights in enumerate((first, second)):
        total = np.zeros((networks.TOKENS, networks.TOKENS))
        gradient = np.asarray(
            jax.grad(lambda a, w=(first, second): found.weighing(a)[0, 1])(
                (jnp.float32(first), jnp.float32(second))
            )[layer]
        )
        for head, i, j in ((0, 0, 3), (1, 0, 7)):  # two of them by differences
            moved = [first.copy(), second.copy()]
            moved[layer][0, head, i, j] += step
            apart = (answer(moved) - answer((first, second))) / step
            np.testing.assert_allclose(gradient[0, head, i, j], apart, atol=2e-2)
        total = np.maximum(gradient[0] * weights[0], 0).mean(axis=0)
        rows = rows + total @ rows
    expected = rows[0, 1:].reshape(4, 4)
    expected = (expected - expected.min()) / np.ptp(expected)
    np.testing.assert_allclose(draw("gradient_rollout", found, 1)[0], expected, atol=1e-3)


def test_a_transformer_without_a_class_token_reads_the_mean_of_its_tokens():
    found = split(networks.NNXViT())
    assert found.features.shape == (3, 4, 4, networks.WIDE) and len(found.attentions) == 2
    half = [(np.asarray(a).mean(axis=1) + np.eye(16)) / 2 for a in found.attentions]
    expected = (half[1] @ half[0]).mean(axis=1).reshape(3, 4, 4)
    ours = draw("attention_rollout", found)
    order = np.argsort(ours.reshape(3, -1), axis=1)
    np.testing.assert_array_equal(order, np.argsort(expected.reshape(3, -1), axis=1))


@needs_equinox
def test_equinox_attention_and_layers_under_vmap_are_seen():
    model = networks.equinox_vit()
    found = split(model)
    whole = jax.vmap(model)(jnp.moveaxis(IMAGES, -1, 1))
    np.testing.assert_allclose(found.logits, whole, atol=1e-5)
    assert found.features.shape == (3, 4, 4, networks.WIDE) and len(found.attentions) == 2
    np.testing.assert_allclose(found.weighing(found.attentions), whole, atol=1e-5)
    assert draw("gradient_rollout", found, 0).shape == (3, 4, 4)


def test_a_function_may_tell_the_attention_of_a_network_that_does_not(vit):
    known = split(*vit)

    def told(images):
        return split(*vit, images=images).attentions

    found = split(*vit, attentions=told)
    np.testing.assert_allclose(
        draw("attention_rollout", found), draw("attention_rollout", known), atol=1e-6
    )
    with pytest.raises(UserError, match="attentions=… only tells them; use attention_rollout"):
        draw("gradient_rollout", found, 0)
    with pytest.raises(UserError, match="attention weights of this network are not known"):
        draw("attention_rollout", split(LINEN, VARIABLES))


@pytest.mark.parametrize(
    ("tokens", "size", "grid"),
    [
        (16, (32, 32), (4, 4, 0)), (17, (32, 32), (4, 4, 1)), (21, (32, 32), (4, 4, 5)),
        (9, (32, 64), (2, 4, 1)), (1, (32, 32), (1, 1, 0)), (46, (32, 32), None),
    ],
)  # fmt: skip
def test_tokens_are_a_grid_in_the_proportions_of_the_image(tokens, size, grid):
    assert token_grid(tokens, size) == grid


def test_a_function_makes_a_map_of_what_is_no_grid(vit):
    def turned(tokens):
        return tokens[:, 1:].reshape(-1, 4, 4, networks.WIDE)[:, ::-1]

    plain, upside = (
        split(*vit, layer="block1/norm1"),
        split(*vit, layer="block1/norm1", reshape=turned),
    )
    np.testing.assert_array_equal(upside.features, plain.features[:, ::-1])
    slope = plain.gradient(jnp.zeros(3, int))
    np.testing.assert_allclose(upside.gradient(jnp.zeros(3, int)), slope[:, ::-1], atol=1e-6)


@pytest.mark.parametrize(
    ("reshape", "says"),
    [
        (lambda x: x, r"must give a map \[b h w d\] and gives \[3, 17, 8\]"),
        (lambda x: x.reshape(-1, 5, 5, 8), "fails: TypeError"),
        (lambda x: 2 * x[:, 1:].reshape(-1, 4, 4, 8), "must only move numbers"),
        (lambda x: x[:, 1:].reshape(-1, 4, 4, 8) ** 2, "fails"),
    ],
)
def test_a_reshape_that_makes_no_map_is_told(vit, reshape, says):
    with pytest.raises(UserError, match=says):
        split(*vit, layer="block1/norm1", reshape=reshape)


@pytest.mark.parametrize(
    ("layer", "says"),
    [
        ("brunch", "layer 'brunch' does not exist — did you mean 'branch'"),
        ("head", r"head' puts out \[b 4\], which is no map; layers with one are .*branch"),
    ],
)  # fmt: skip
def test_a_layer_without_a_map_is_told(layer, says):
    with pytest.raises(UserError, match=says):
        split(LINEN, VARIABLES, layer=layer)


def test_tokens_that_are_no_grid_are_told():
    class Odd(nn.Module):
        @nn.compact
        def __call__(self, images):
            tokens = Relu3(name="tokens")(images.reshape(len(images), -1, 16))
            return tokens.mean((1, 2))[:, None]

    class Relu3(nn.Module):
        def __call__(self, x):
            return nn.relu(x[:, :46])

    with pytest.raises(
        UserError, match="46 tokens are no grid in the image's proportions.*reshape"
    ):
        split(Odd(), {"params": {}}, layer="tokens")
    with pytest.raises(UserError, match="no layer of this network has a map"):
        split(Odd(), {"params": {}})


def test_a_part_of_a_name_leads_to_a_layer():
    with pytest.raises(UserError, match="'blocks' does not exist — did you mean 'blocks/0'"):
        split(networks.Module(), layer="blocks")


@pytest.mark.parametrize(
    ("network", "says"),
    [
        ((features, classify), None),
        ((LINEN,), "give .model, variables, images."),
        (networks.Module, "network must be a module"),
        ((features, 3), "network must be a module"),
    ],
)
def test_what_is_no_network_is_told(network, says):
    if says is None:
        assert network_of(network, (), SHAPE)[0].layout == "NHWC"
        return
    given = network[0] if network == (LINEN,) else network
    with pytest.raises(UserError, match=says):
        network_of(given, (), SHAPE)


def test_how_a_network_takes_images_is_found_out_or_told():
    def first(x):  # channels first: 3 is the second axis
        return jnp.einsum("bcyx,cd->bdyx", x, jnp.ones((3, 2)))[:, :, ::4, ::4]

    pair = first, lambda f: f.mean((2, 3))
    assert network_of(pair, (), SHAPE)[0].layout == "NCHW"
    assert split(pair).features.shape == (3, 4, 4, 2)
    grey = lambda x: x @ jnp.ones((1, 2)), lambda f: f.mean((1, 2))  # noqa: E731
    assert network_of(grey, (), SHAPE)[0].grey
    with pytest.raises(UserError, match="cannot be fed two images .2 16 16 3. .as NHWC, NCHW.: "):
        network_of((lambda x: x @ jnp.ones((7, 2)), lambda f: f), (), SHAPE)
    with pytest.raises(UserError, match="layout 'NHCW' is unknown — did you mean 'NHWC'"):
        network_of(pair, (), SHAPE, "NHCW")
    with pytest.raises(UserError, match="as NHWC"):
        network_of(pair, (), SHAPE, "NHWC")
