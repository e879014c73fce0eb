"""Turns a torch checkpoint into a run that evaluate, explain and train take.

  lficam import-torch FILE --config NAME[:OPTIONS] --workdir DIR

FILE is one of:
  .pth.tar, .pth, .pt   as torch saves it, read without torch. Only weights are read: a file that
                        would run code is refused.
  .safetensors

The config must say the network that the file was trained as: backbone, depth and options; the head
and the data set, for its classes. Understood are the released LFI-CAM and ABN networks, and as
torchvision names them ResNet, ResNeXt, Wide-ResNet, DenseNet, VGG, MobileNetV2 and ConvNeXt. The
backbone must fit in full. A head or a classifier that does not, because the file has none or one
for other classes, starts fresh; what starts fresh is printed.

DIR gets config.json and the checkpoint of step 0. Training with the same config starts from it;
with another config, start a new run from it: --config.init_from=DIR.

Examples:
  lficam import-torch model_best.pth.tar --config cifar10 --workdir runs/a
  lficam evaluate --workdir runs/a
  lficam import-torch resnet50.pth --config imagenet:backbone=resnet50,head=lfi --workdir runs/b
  lficam train --config folder:backbone=resnet50 --workdir runs/c \\
      --config.data.folder=photos --config.init_from=runs/b
"""

from lficam_jax import cli, config_file
from lficam_jax.errors import UserError


def main(words: list[str], prog: str = "python -m lficam_jax.import_torch") -> int:
    """Imports the file and prints what was taken."""
    words, overrides = config_file.split_overrides(words)
    parser = cli.Parser(prog=prog, usage=f"{prog} FILE [FLAGS]", description=__doc__)
    parser.add_argument("file", nargs="*", metavar="FILE", help="the torch file")
    parser.add_argument("--config", metavar="NAME[:OPTIONS]", help=config_file.HELP)
    parser.add_argument("--workdir", metavar="DIR", help="folder of the new run")
    asked = parser.parse(words)
    if len(asked.file) != 1:
        raise UserError(f"give one FILE to import, not {len(asked.file)}; see {prog} --help")
    config = config_file.configured(asked.config, overrides)
    if not asked.workdir:
        raise UserError("--workdir is missing; for example --workdir runs/imported")
    from lficam_jax.training.import_run import (
        import_run,  # here, so that --help and a typo answer at once
    )

    print(import_run(asked.file[0], config, asked.workdir))
    return 0


if __name__ == "__main__":
    cli.run(main)
