"""Turns a torch checkpoint into a run that evaluate, explain and train take.

  python -m lficam_jax.import_torch FILE --config configs/NAME.py[:OPTIONS] --workdir DIR

FILE is one of:
  .pth.tar, .pth, .pt   as torch saves it; needs torch (pip install torch). Only weights are read:
                        a file that would run code is refused.
  .safetensors          needs nothing else.

The config must say the network that the file was trained as: backbone, depth and options; the head
and the data set, for its classes. Understood are the released LFI-CAM and ABN networks, and plain
ResNets as torchvision names them. The backbone must fit in full. A head or a classifier that does
not, because the file has none or one for other classes, starts fresh; what starts fresh is printed.

DIR gets config.json and the checkpoint of step 0. Training with the same config starts from it;
with another config, start a new run from it: --config.init_from=DIR.

Examples:
  python -m lficam_jax.import_torch model_best.pth.tar --config configs/cifar10.py --workdir runs/a
  python -m lficam_jax.main --config configs/cifar10.py --workdir runs/a --mode evaluate
  python -m lficam_jax.import_torch resnet50.pth \\
      --config configs/imagenet.py:backbone=resnet50,head=lfi --workdir runs/b
  python -m lficam_jax.main --config configs/folder.py:backbone=resnet50 --workdir runs/c \\
      --config.data.folder=photos --config.init_from=runs/b
"""

from absl import flags

from lficam_jax import cli
from lficam_jax.errors import UserError

flags.adopt_module_key_flags(cli)  # so that --help shows them


def main(argv: list[str]) -> int:
    """Imports the file and prints what was taken."""
    if len(argv) != 2:
        raise UserError(f"give one FILE to import, not {len(argv) - 1}; see --help")
    config, workdir = cli.config(), cli.workdir()
    from lficam_jax.interop.run import import_run  # here, so that --help and a typo answer at once

    print(import_run(argv[1], config, workdir))
    return 0


if __name__ == "__main__":
    cli.run(main)
