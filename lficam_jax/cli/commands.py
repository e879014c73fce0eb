"""What each command is and takes: tables that the parsers, the help and the tests read.

No jax here, so that help and a typo answer at once.
"""

from dataclasses import dataclass
from typing import Any

from lficam_jax import cli, config_file

# The names that flags take, here so that help and typos need no jax; tests hold them to the code.
SPLITS = ("train", "validation", "test")
METHODS = (
    "own", "own_class", "cam", "grad_cam", "grad_cam_pp", "smooth_grad_cam_pp", "xgrad_cam",
    "hires_cam", "layer_cam", "eigen_grad_cam", "score_cam", "ss_cam", "is_cam", "ablation_cam",
    "eigen_cam", "gradient", "input_x_gradient", "smooth_grad", "integrated_gradients",
    "guided_backprop", "occlusion", "rise", "mean_features", "gaussian", "random", "fakecam",
)  # fmt: skip
WRAPPERS = ("smoothed", "augmented")  # behind a method's name: grad_cam+augmented
MEASURES = (
    "confidence", "deletion", "insertion", "road", "adcc", "sparseness", "localisation",
    "sensitivity",
)  # fmt: skip
PERTURBATIONS = (
    "fgsm", "gaussian_noise", "shot_noise", "impulse_noise", "defocus_blur", "zoom_blur",
    "brightness", "contrast", "pixelate", "jpeg_compression",
)  # fmt: skip
SECTIONS = ("forward", "methods", "measures", "train", "pipeline", "compile")
FORMATS = ("stablehlo", "onnx", "safetensors", "page")
COMPILED = ("train", "evaluate", "maps")  # by describe --topology


def _flag(help: str, kind: Any = str, default: Any = None, metavar: str = "", **more: Any) -> Any:
    """Returns the arguments of `add_argument`."""
    return {"help": help, "type": kind, "default": default, "metavar": metavar or None, **more}


_LIST = {"nargs": "+", "action": "extend"}
FLAGS: dict[str, dict[str, Any]] = {
    "split": _flag("train, validation or test (default: test)", cli.names(SPLITS, False), "test"),
    "limit": _flag("examples of the split (default: 1000)", cli.whole(1, 10**9), 1000),
    "methods": _flag(
        f"maps, with commas between: {', '.join(METHODS)}; +{' or +'.join(WRAPPERS)} may stand "
        "behind a name (docs/maps.md)", cli.names(METHODS, after=WRAPPERS), [],
    ),
    "images": _flag("files, folders or globs of your own", default=[], metavar="FILE", **_LIST),
    "tiles": {
        "help": "the --images in their full size, through windows as large as the network's input",
        "action": "store_true",
    },
    "video": _flag(
        "a video, drawn anew with maps over its frames (pip install 'lficam_jax[video]')",
        default="", metavar="FILE",
    ),
    "measures": _flag(
        f"with commas between: {', '.join(MEASURES)} (default: all but sensitivity; "
        "docs/measures.md)", cli.names(MEASURES), [],
    ),
    "sections": _flag(f"default: {','.join(SECTIONS)}", cli.names(SECTIONS), []),
    "describe sections": _flag(
        f"of what --topology compiles (default: {','.join(COMPILED)})", cli.names(COMPILED), []
    ),
    "describe methods": _flag(
        "maps that --topology compiles (default: own,score_cam)",
        cli.names(METHODS, after=WRAPPERS), [],
    ),
    "topology": _flag(
        "TPU to compile for, without one: v5e:2x4, v5litepod-8, v6e-8, v4-16, v5p-8 "
        "(docs/benchmarks.md)", default="",
    ),
    "baseline": _flag(
        "what a masked pixel shows: mean (default), black or blur",
        cli.names(("mean", "black", "blur"), False), "mean",
    ),
    "target": _flag(
        "the class that is measured: predicted (default), label, or asked, where the data ask (and "
        "the default there)",
        cli.names(("predicted", "label", "asked"), False),
    ),
    "explain target": _flag(
        "the class that maps are asked about, by name or number (default: the predicted one); own "
        "of LFI-CAM and ABN and some others take none", metavar="CLASS",
    ),
    "out": _flag(
        "folder for the page (default: a new one in DIR/explanations), an earlier explanation in "
        "it is replaced; of a --video: the new file (default: NAME-maps.mp4)", default="",
        metavar="DIR",
    ),
    "pretrained": _flag(
        "a trained network, by name, instead of a run: cluttered_digits (in this package), "
        "efficientnet_lite0, torchvision:resnet50, … (docs/models.md)", default="", metavar="NAME",
    ),
    "from": _flag(
        "file of the --pretrained network's weights (default: of its package, or downloaded)",
        default="", metavar="FILE", dest="weights",
    ),
    "to": _flag(
        f"{', '.join(FORMATS[:-1])} or page (docs/export.md)", cli.names(FORMATS, False),
        required=True,
    ),
    "export out": _flag("file to write (default: DIR/export/model.*)", default="", metavar="FILE"),
    "runtime": _flag(
        "of --to page: the archive of onnxruntime-web (default: downloaded once, 33 MB)",
        default="", metavar="FILE",
    ),
    "port": _flag("to listen at (default: 8000; 0: one that is free)", cli.whole(0, 65535), 8000),
    "runs": _flag("workdirs of the runs to compare", default=[], metavar="DIR", **_LIST),
    "perturbations": _flag(
        f"with commas between: {', '.join(PERTURBATIONS)} (default: all)",
        cli.names(PERTURBATIONS), [],
    ),
    "severities": _flag("1 to 5 (default: 1,3,5)", cli.whole(1, 5, True), [1, 3, 5]),
    "epsilons": _flag(
        "of fgsm, in 255ths of a pixel's range (default: 1,2,4,8)", cli.whole(1, 255, True),
        [1, 2, 4, 8],
    ),
    "profile_steps": _flag("steps that are profiled", default="", metavar="FIRST:LAST"),
    "distributed": _flag(
        "many processes: auto, or HOST:PORT,N,I to be process I of N; process 0 is at HOST:PORT",
        default="", metavar="SPEC",
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Mode:
    """What `lficam MODE` is.

    Attributes:
      does: one line.
      flags: of `FLAGS`, beside --config, --workdir and the config's keys.
      reads: whether it reads the run of --workdir, and so needs no config.
      example: words behind `lficam MODE`.
      note: what else its help says.
    """

    does: str
    flags: tuple[str, ...]
    reads: bool
    example: str
    note: str = ""


LONGER = """`lficam train --workdir DIR` continues a run that was stopped. A finished run trains on
with a larger --config.train.total_epochs, unless its schedule is cosine, which ends with it."""
MODES = {
    "train": Mode(
        "trains, or continues, the run of --workdir; writes results/train.json",
        ("profile_steps", "distributed"), False, "--config cluttered_digits --workdir runs/a",
        LONGER,
    ),
    "evaluate": Mode(
        "measures its best checkpoint on a split; writes results/evaluate.json",
        ("split", "distributed"), True, "--workdir runs/a --split validation",
    ),
    "explain": Mode(
        "draws its maps on a sample of the data, or on your own files; makes a page",
        ("images", "tiles", "video", "methods", "target", "out", "pretrained", "from"), True,
        "--workdir runs/a --images photo.jpg",
    ),
    "faithfulness": Mode(
        "measures maps side by side; writes results/faithfulness.json, .csv and .html",
        ("methods", "measures", "split", "limit", "baseline", "target", "pretrained", "from"), True,
        "--workdir runs/a --methods own,grad_cam --limit 200",
    ),
    "robustness": Mode(
        "attacks and corrupts pictures: does the class hold, and the map?",
        ("methods", "perturbations", "severities", "epsilons", "split", "limit", "pretrained",
         "from"), True,
        "--workdir runs/a --perturbations fgsm,contrast --limit 200",
    ),
    "sanity": Mode(
        "re-initialises the network from the top down: does the map change?",
        ("methods", "split", "limit", "pretrained", "from"), True,
        "--workdir runs/a --limit 200",
    ),
    "stability": Mode(
        "compares the maps of several runs; writes results/stability.json",
        ("runs", "split", "limit"), False, "--runs runs/a runs/b --workdir runs/compared",
    ),
    "export": Mode(
        "writes its network for others: StableHLO, ONNX, safetensors, or a page for browsers",
        ("to", "out", "runtime", "pretrained", "from"), True,
        "--pretrained cluttered_digits --to page",
    ),
    "serve": Mode(
        "shows a page on this machine: pictures, camera or a drawing, explained live by jax",
        ("port", "pretrained", "from"), True, "--pretrained cluttered_digits",
    ),
    "describe": Mode(
        "layers, parameters, FLOPs and schedule of a config; no data (`folder`: its pictures)",
        ("topology", "sections", "methods"), False, "--config cifar10:depth=20",
    ),
    "benchmark": Mode(
        "speed of everything, on random images (docs/benchmarks.md); needs no data",
        ("sections", "methods", "measures"), False, "--config cifar10 --sections forward,train",
    ),
}  # fmt: skip
FREE = ("describe", "benchmark")  # of a workdir
PROGRAMS = {  # of the command `lficam`, beside the modes
    "prepare": ("lficam_jax.prepare", "writes a data set to disk, once: lficam prepare NAME"),
    "study": ("lficam_jax.study.__main__", "trains and compares whole families of networks"),
    "import-torch": ("lficam_jax.import_torch", "turns a torch checkpoint into a run"),
}

KEYS = """Any key of the config can be set, --config.optim.lr=0.05; --help-config lists them all.
`:smoke` behind a config shrinks it to seconds: --config cifar10:smoke"""


def parser(mode: str, prog: str) -> cli.Parser:
    """Returns the flags of a mode."""
    about = MODES[mode]
    found = cli.Parser(
        prog=prog, usage=f"{prog} [FLAGS] [--config.KEY=VALUE …]", description=about.does,
        epilog=f"{KEYS}\n{about.note}\n\nexample: {prog} {about.example}",
    )  # fmt: skip
    needed = "; not needed for a run that is there" if about.reads or mode == "train" else ""
    found.add_argument("--config", metavar="NAME[:OPTIONS]", help=config_file.HELP + needed)
    found.add_argument("--workdir", metavar="DIR", help="folder of the run, or gs://BUCKET/RUN")
    for name in about.flags:
        found.add_argument(f"--{name}", **(FLAGS.get(f"{mode} {name}") or FLAGS[name]))
    found.add_argument("--help-config", action="store_true", help="lists the config's keys")
    return found


def elsewhere(mode: str) -> dict[str, str]:
    """Returns what to say of a flag that other modes listen to."""
    names = {name for about in MODES.values() for name in about.flags}
    listening = {name: [m for m in MODES if name in MODES[m].flags] for name in names}
    return {
        f"--{name}": f"--{name} is for {', '.join(modes)}; leave it out of {mode}"
        for name, modes in listening.items() if mode not in modes
    }  # fmt: skip
