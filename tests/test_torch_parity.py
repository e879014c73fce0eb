"""The same weights in torch and here give the same numbers, in evaluation and in ten SGD steps."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lficam_jax.config import default_config
from lficam_jax.interop.torch import variables_from_torch
from lficam_jax.models import create_model
from lficam_jax.training.optim import optimizer
from lficam_jax.training.steps import example_losses

torch = pytest.importorskip("torch")
import torch_reference  # noqa: E402

pytestmark = pytest.mark.torch
CLASSES = 5
NETWORKS = [
    ("cifar_resnet", 20, "lfi", {}),
    ("cifar_resnet", 44, "lfi", {}),
    ("cifar_resnet", 14, "abn", {}),
    ("cifar_resnet", 44, "abn", {}),
    ("cifar_resnet", 8, "plain", {}),
    ("cifar_densenet", 22, "lfi", {"growth": 12}),
    ("cifar_densenet", 16, "abn", {"growth": 6}),
    ("cifar_resnext", 20, "lfi", {"cardinality": 2, "widen": 1}),
    ("cifar_resnext", 11, "abn", {"cardinality": 4, "widen": 2}),
    ("wide_resnet", 16, "lfi", {"widen": 2}),
    ("wide_resnet", 10, "abn", {"widen": 1}),
    ("resnet", 18, "lfi", {}),
    ("resnet", 50, "plain", {}),
    ("resnet", 18, "abn", {}),
    ("se_resnet", 50, "plain", {}),
]


def pair(backbone, depth, head, options, seed=0):
    """The torch network, our model, and its variables with the same weights."""
    reference = torch_reference.Network(backbone, depth, head, CLASSES, **options)
    state = torch_reference.randomise(reference, seed).state_dict()
    model = create_model(backbone, depth, head, num_classes=CLASSES, **options)
    return reference, model, variables_from_torch({k: v.numpy() for k, v in state.items()}, model)


def batch(rows, size, seed=1):
    images = np.random.default_rng(seed).standard_normal((rows, size, size, 3)).astype(np.float32)
    return images, torch.from_numpy(images).permute(0, 3, 1, 2)


@pytest.mark.parametrize(("backbone", "depth", "head", "options"), NETWORKS)
def test_evaluation(backbone, depth, head, options):
    reference, model, variables = pair(backbone, depth, head, options)
    assert sum(p.numel() for p in reference.parameters()) == sum(
        leaf.size for leaf in jax.tree.leaves(variables["params"])
    )
    images, theirs = batch(2, 64 if backbone.endswith("e_resnet") or backbone == "resnet" else 32)
    with torch.no_grad():
        expected = reference.eval()(theirs)
    outputs = jax.jit(model.apply)(variables, images)
    for name, value in expected.items():
        want, got = value.numpy(), np.asarray(getattr(outputs, name))
        if name == "attention":
            np.testing.assert_allclose(got, want, atol=1e-4)
        else:
            assert np.linalg.norm(got - want) <= 1e-5 * np.linalg.norm(want), name


@pytest.mark.parametrize("head", ["plain", "lfi", "abn"])
def test_ten_steps_of_sgd(head):
    steps, rows, size = 10, 16, 16
    reference, model, variables = pair("cifar_resnet", 8, head, {})
    config = default_config().optim
    config.lr, config.momentum, config.weight_decay = 0.02, 0.9, 1e-3
    sgd = torch.optim.SGD(reference.parameters(), lr=0.02, momentum=0.9, weight_decay=1e-3)
    tx = optimizer(config, optax.constant_schedule(config.lr))

    @jax.jit
    def step(params, stats, opt_state, images, labels):
        def loss_of(params):
            both = {"params": params, "batch_stats": stats}
            outputs, updated = model.apply(both, images, train=True, mutable=["batch_stats"])
            return example_losses(model, outputs, labels).mean(), updated["batch_stats"]

        (loss, stats), grads = jax.value_and_grad(loss_of, has_aux=True)(params)
        updates, opt_state = tx.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), stats, opt_state, loss

    params, stats = variables["params"], variables["batch_stats"]
    opt_state, ours, theirs = tx.init(params), [], []
    for i in range(steps):
        images, torch_images = batch(rows, size, seed=i % 2)
        labels = np.arange(rows) % CLASSES
        params, stats, opt_state, loss = step(params, stats, opt_state, images, labels)
        ours.append(float(loss))
        outputs = reference.train()(torch_images)
        targets = torch.from_numpy(labels)
        losses = [torch.nn.functional.cross_entropy(v, targets)
                  for k, v in outputs.items() if k.endswith("logits")]  # fmt: skip
        sgd.zero_grad()
        sum(losses).backward()
        sgd.step()
        theirs.append(sum(losses).item())
    np.testing.assert_allclose(ours, theirs, rtol=1e-3)
    assert theirs[-1] < theirs[0] - 0.03  # it did train
    expected = statistics(reference, pair("cifar_resnet", 8, head, {})[0], steps, model)
    jax.tree.map(
        lambda got, want: np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-3),
        stats, expected,
    )  # fmt: skip


def statistics(trained, start, steps, model):
    """Torch's running statistics as flax defines them: it averages the biased variance."""
    before, kept = start.state_dict(), 0.9**steps
    after = {name: tensor.numpy().copy() for name, tensor in trained.state_dict().items()}
    for name, module in trained.named_modules():
        if isinstance(module, torch_reference.Norm):
            old = kept * before[f"{name}.running_var"].numpy()
            unbiased = after[f"{name}.running_var"] - old
            n = module.values
            after[f"{name}.running_var"] = old + unbiased * (n - 1) / n
    return jax.tree.map(jnp.asarray, variables_from_torch(after, model)["batch_stats"])
