"""The command line: `flax-talk COMMAND`, from `prepare` and `inspect` to `import` and `info`.

A command imports what it needs when it runs, so that help and mistakes on the command line
answer at once. Whatever the user can mend is one line on stderr and exit code 2; anything else
is a bug and keeps its traceback.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, NoReturn

from flax_talk import __version__
from flax_talk.errors import UserError

INTERRUPTED = 130


class _Parser(argparse.ArgumentParser):
    """Its errors are one line, like every other mistake of a user."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}: see {self.prog} --help")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        argv: words after the program's name; those of this process if None.

    Returns:
        The exit code: 0, 2 for a mistake the user can mend, 130 when interrupted.
    """
    try:
        args = make_parser().parse_args(argv)
        args.run(args)
    except UserError as error:
        print(f"flax-talk: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("flax-talk: interrupted", file=sys.stderr)
        return INTERRUPTED
    return 0


def _prepare(args: argparse.Namespace) -> None:
    from input_pipeline.prepare import prepare

    # The summary that `prepare` prints must not mix with JSON.
    with redirect_stdout(sys.stderr if args.json else sys.stdout):
        report = prepare(args.dataset, args.data_dir, args.source, args.jobs, args.beam)
    if args.json:
        failures = [{"id": clip, "reason": reason} for clip, reason in report.failures]
        _print_json({**vars(report), "path": str(report.path), "failures": failures})


def _inspect(args: argparse.Namespace) -> None:
    from input_pipeline.inspect import inspect

    found = inspect(args.folder, args.out)
    if args.json:
        _print_json({**vars(found), "path": str(found.path), "sheet": str(found.sheet)})
    else:
        print(found)


def _label(args: argparse.Namespace) -> None:
    from input_pipeline.label import label

    names = ("folder", "model", "openface", "threshold", "jobs")
    done = label(**{name: getattr(args, name) for name in names})
    if args.json:
        failures = [{"id": clip, "reason": reason} for clip, reason in done.failures]
        _print_json({**vars(done), "path": str(done.path), "failures": failures})
    else:
        print(done)


def _animate(args: argparse.Namespace) -> None:
    _check_batch(args, "still", "audio", "text")
    chosen = {"checkpoint": args.checkpoint} if args.checkpoint else {}
    chosen |= {name: getattr(args, name) for name in ("voice", "seed", "detector")}
    chosen["visible_mark"] = args.mark
    if args.batch:
        from flax_talk.batch import animate_batch

        made = animate_batch(args.batch, args.out_dir, jobs=args.jobs, **chosen)
        return _print_batch(made, args.json)
    from flax_talk.animate import animate_files

    audio = sys.stdin.buffer if args.audio == "-" else args.audio
    done = animate_files(args.still, audio, args.out, text=args.text, **chosen)
    if args.json:
        _print_json({**done._asdict(), "path": str(done.path)})
    else:
        seconds = done.frames / done.fps
        print(f"{done.path}: {done.frames} frames, {seconds:.2f} s, checkpoint of step {done.step}")


def _check_batch(args: argparse.Namespace, face: str, *others: str) -> None:
    """Either one video is asked for, or a table of them and none of `others`."""
    one, many = (getattr(args, face), args.out), (args.batch, args.out_dir)
    if any(many) and any([*one, *(getattr(args, name) for name in others)]):
        raise UserError(f"--batch goes without --{', --'.join((face, *others, 'out'))}")
    if not all(many if any(many) else one):
        raise UserError(f"give --{face}, the speech and --out, or --batch and --out-dir")


def _print_batch(done: Any, as_json: bool) -> None:
    if as_json:
        failures = [failure._asdict() for failure in done.failures]
        _print_json({**done._asdict(), "path": str(done.path), "failures": failures})
    else:
        print(done)
    if done.failures and not (done.made or done.skipped):
        raise UserError(f"no video could be made: see {done.path / 'report.csv'}")


def _fit(args: argparse.Namespace) -> None:
    if (args.video is None) == (args.data is None):
        raise UserError("give either --video and --out, or --data")
    if (args.video is None) != (args.out is None) or (args.overlay and args.video is None):
        raise UserError("--video and --out go together, and --overlay with them")
    from flax_talk.face_model.fitting_files import FittedData, FittedVideo, fit_data, fit_video

    done: FittedVideo | FittedData
    if args.video is not None:
        done = fit_video(args.video, args.out, args.overlay, args.detector)
        text = f"{done.path}: {done.frames} frames, error {done.error:.2f} px"
    else:
        done = fit_data(args.data)
        counts = f"{done.fitted} clips fitted, {done.skipped} there already"
        failed = f"{len(done.failures)} failed" + (" (report.csv)" if done.failures else "")
        text = f"{done.path}: {counts}, {failed}, error {done.error:.2f} px"
    if args.json:
        _print_json({**done._asdict(), "path": str(done.path)})
    else:
        print(text)


def _dub(args: argparse.Namespace) -> None:
    if args.command == "dub":
        _check_batch(args, "video", "audio", "text", "keep")
    if args.until != "finish" and args.keep is None:
        raise UserError(f"what {args.until} finds is kept in a folder: give --keep DIR")
    from flax_talk.dub import Finish, dub_files

    options = {name: getattr(args, name) for name in ("voice", "detector", "seed")}
    chosen = {name: getattr(args, name) for name in ("translation", "renderer")}
    options |= {name: path for name, path in chosen.items() if path}
    if args.adapt is not None:
        options["adaptation"] = args.adapt
    options["steps"] = Finish(**{name: not getattr(args, f"no_{name}") for name in Finish._fields})
    options["visible_mark"] = args.mark
    if args.command == "dub" and args.batch:
        from flax_talk.batch import dub_batch

        made = dub_batch(args.batch, args.out_dir, jobs=args.jobs, **options)
        return _print_batch(made, args.json)
    options |= {name: getattr(args, name) for name in ("text", "keep", "until")}
    done = dub_files(args.video, args.audio, args.out, **options)
    if args.json:
        _print_json({**done._asdict(), "path": str(done.path)})
    else:
        seconds = done.frames / done.fps
        fit = f"the face fitted to {done.fit_error:.2f} px"
        print(f"{done.path}: {done.frames} frames, {seconds:.2f} s, {fit}")


def _evaluate(args: argparse.Namespace) -> None:
    from flax_talk.evaluation import report
    from flax_talk.evaluation.evaluate import compare, evaluate

    common = dict(out=args.out, metrics=_words(args.metrics), judges=_judges(args))
    if (args.videos is None) != (args.references is None):
        raise UserError("--videos and --references go together: give both")
    if (args.videos is None) == (args.checkpoint is None):
        raise UserError("give either --checkpoint, or --videos and --references")
    if args.videos is not None:
        result = compare(args.videos, args.references, is_aligned=args.aligned, **common)
    else:
        where = dict(data_dir=args.data_dir, dataset=args.dataset, split=args.split)
        sizes = dict(limit=args.limit, batch_size=args.batch_size)
        result = evaluate(args.checkpoint, **where, **sizes, **common)
    if args.json:
        print(report.to_json(result), end="")
        return
    print(report.table(result), end="")
    if text := report.effort(result):
        print(text, file=sys.stderr)


def _ablate(args: argparse.Namespace) -> None:
    from flax_talk.ablation import ablate
    from flax_talk.evaluation import report

    names = ("system", "dataset", "workdir", "variant", "split", "limit")
    # What the runs print must not mix with JSON.
    with redirect_stdout(sys.stderr if args.json else sys.stdout):
        result = ablate(
            **{name: getattr(args, name) for name in names},
            rows=_words(args.rows),
            overrides=dict(map(_setting, args.set)),
            metrics=_words(args.metrics),
            judges=_judges(args),
        )
    print(report.to_json(result) if args.json else report.ablation_table(result), end="")


def _judges(args: argparse.Namespace) -> Any:
    from flax_talk.evaluation.measures import Judges

    return Judges(**{name: getattr(args, name) for name in Judges._fields if getattr(args, name)})


def _setting(text: str) -> tuple[str, Any]:
    """FIELD=VALUE, the value in JSON or, where it is none, a text."""
    name, sign, value = text.partition("=")
    if not sign:
        raise UserError(f"--set {text}: give FIELD=VALUE, such as train.max_steps=100")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _words(text: str | None) -> list[str]:
    return [word for word in (text or "").replace(",", " ").split()]


def _export(args: argparse.Namespace) -> None:
    if args.format == "torch":
        from flax_talk.interop.temporal_gan_2019 import export_temporal_gan

        path = export_temporal_gan(args.checkpoint, args.out, args.dtype or "float32")
    else:
        from flax_talk.training.checkpoints import export

        path = export(args.checkpoint, args.out, dtype=args.dtype or "float16")
    _print_written(path, args.json)


def _import(args: argparse.Namespace) -> None:
    from flax_talk.interop.temporal_gan_2019 import load_temporal_gan
    from flax_talk.training.checkpoints import save_exported

    config, variables = load_temporal_gan(args.file)
    path = save_exported(config, variables, 0, args.out, dtype="float32")
    _print_written(path, args.json)


def _print_written(path: Path, as_json: bool) -> None:
    size = path.stat().st_size
    if as_json:
        _print_json({"path": str(path), "bytes": size})
    else:
        print(f"{path}: {size / 1e6:.1f} MB")


def _report(args: argparse.Namespace) -> None:
    from flax_talk.training.report import write_report

    path = write_report(args.workdir, args.out, args.evaluation)
    _print_written(path, args.json)


def _app(args: argparse.Namespace) -> None:
    from flax_talk.app import run

    run(args.checkpoint, args.host, args.port, args.max_seconds, args.max_file)


def _completion(args: argparse.Namespace) -> None:
    try:
        import shtab
    except ImportError as error:
        raise UserError("completion needs shtab: pip install 'flax-talk[completion]'") from error
    print(shtab.complete(make_parser(), args.shell))


def _doctor(args: argparse.Namespace) -> None:
    from flax_talk.doctor import environment, examine

    findings = examine()
    if args.json:
        _print_json({**environment(), "findings": [finding._asdict() for finding in findings]})
        return
    for finding in findings:
        state = "ok" if finding.ok else "--"
        advice = f": {finding.advice}" if finding.advice else ""
        print(f"{state}  {finding.name:18} {finding.found}{advice}")


def _info(args: argparse.Namespace) -> None:
    from flax_talk.doctor import environment

    facts = environment() | (_run(args.checkpoint) if args.checkpoint else {})
    if args.json:
        _print_json(facts)
        return
    for name, value in facts.items():
        if isinstance(value, dict):
            value = ", ".join(f"{key} {_readable(entry)}" for key, entry in value.items())
        print(f"{name:12} {_readable(value)}")


def _run(workdir: str) -> dict[str, Any]:
    import jax

    from flax_talk.training.checkpoints import load_config, load_variables

    config = load_config(workdir)
    variables, step = load_variables(workdir)
    fields = ("dataset", "builder_config", "image_size", "audio_rate", "video_rate")
    return {
        "checkpoint": workdir,
        "system": config.system,
        "step": step,
        "data": {field: config.data[field] for field in fields},
        "parameters": {
            player: sum(leaf.size for leaf in jax.tree.leaves(entry["params"]))
            for player, entry in variables.items()
        },
    }


def _readable(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    # Parameter counts are unreadable without separators; rates and steps are not.
    return f"{value:_}" if isinstance(value, int) and value >= 100_000 else str(value)


def _print_json(value: dict[str, Any]) -> None:
    print(json.dumps(value, indent=2))


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number above 0")
    return value


def make_parser() -> argparse.ArgumentParser:
    """The parser of the command line, with every command."""
    parser = _Parser(
        prog="flax-talk",
        description="Talking faces from speech, in JAX and Flax.",
        epilog="flax-talk COMMAND --help explains a command and shows an example.",
    )
    parser.add_argument("--version", action="version", version=f"flax-talk {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", dest="command", required=True)

    def command(
        run, name: str, summary: str, example: str, has_json: bool = True
    ) -> argparse.ArgumentParser:
        added = commands.add_parser(
            name,
            help=summary,
            description=summary,
            epilog=f"example:\n  {example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        added.set_defaults(run=run)
        if has_json:
            added.add_argument("--json", action="store_true", help="print the result as JSON")
        return added

    add = command(
        _prepare,
        "prepare",
        "Cut the faces and sound of a corpus into records, once, for training.",
        "flax-talk prepare grid --source ~/GRID --data-dir data --jobs 8",
    ).add_argument
    add("dataset", metavar="DATASET[:CONFIG]", help="such as grid, crema_d or synthetic_grid:tiny")
    help = "the corpus, as distributed (synthetic_grid is rendered and needs none)"
    add("--source", metavar="DIR", help=help)
    add("--data-dir", default="data", metavar="DIR", help="where data sets go (default: data)")
    cores = os.cpu_count() or 1
    add("--jobs", type=_positive, default=cores, metavar="N", help="processes (default: all cores)")
    help = "do it on Apache Beam, with these options of it, such as runner=FlinkRunner"
    add("--beam", nargs="+", default=(), metavar="NAME=VALUE", help=help)

    add = command(
        _inspect,
        "inspect",
        "Tell what a prepared data set holds, and draw some of it on a contact sheet.",
        "flax-talk inspect data/grid/aligned_128x96 --out sheet.png",
    ).add_argument
    help = "such as data/grid/aligned_128x96; data, if it has no other data set"
    add("folder", metavar="DATA_DIR/NAME/CONFIG", help=help)
    help = "contact sheet to write (default: contact_sheet.png in the folder)"
    add("--out", metavar="OUT.png", help=help)

    add = command(
        _label,
        "label",
        "Give the clips of a prepared data set action units, which some systems learn from.",
        "flax-talk label data/grid/aligned_128x96 --model face_landmarker.task\n"
        "  flax-talk label data/grid/aligned_128x96 --openface csv",
    ).add_argument
    add("folder", metavar="DATA_DIR/NAME/CONFIG", help="such as data/grid/aligned_128x96")
    help = "MediaPipe's Face Landmarker, whose blendshapes are a proxy of the units; or"
    add("--model", metavar="FILE.task", help=help)
    help = "folder of OpenFace's CSV files, named by the ids of the clips"
    add("--openface", metavar="DIR", help=help)
    help = "intensity, 0 to 1, from which on a unit is counted (default: 0.2)"
    add("--threshold", type=float, default=0.2, metavar="X", help=help)
    add("--jobs", type=_positive, default=cores, metavar="N", help="processes (default: all cores)")

    add = command(
        _animate,
        "animate",
        "Make the face of a still say the speech of a recording, or a text.",
        "flax-talk animate --still me.jpg --audio voice.wav --out me.mp4\n"
        "  flax-talk animate --batch pairs.csv --out-dir videos",
    ).add_argument
    add("--still", metavar="IMG", help="picture, or video: its first frame")
    add("--audio", metavar="WAV", help="sound file, or video with sound; - is standard input")
    add("--text", metavar="WORDS", help="speak this instead, with espeak-ng")
    add("--voice", default="en-us", metavar="NAME", help="of --text, such as en-gb-x-rp+f2")
    help = "folder of a run of train.py, or exported (default: the one that comes with flax_talk)"
    add("--checkpoint", metavar="W", help=help)
    add("--out", metavar="OUT.mp4", help="video to write")
    _add_batch(add, "still")
    add("--seed", type=int, default=0, metavar="N", help="of the random movements (default: 0)")
    help = "face detector, or none for a still that is an aligned crop (default: dlib)"
    add("--detector", default="dlib", metavar="NAME", help=help)
    add("--mark", action="store_true", help="write SYNTHETIC into every frame")

    add = command(
        _fit,
        "fit",
        "Fit the 3D face model to a video, or to every clip of a prepared data set.",
        "flax-talk fit --video me.mp4 --out me.npz --overlay me_fit.mp4\n"
        "  flax-talk fit --data data/grid/aligned_128x96",
    ).add_argument
    add("--video", metavar="V", help="video of one face")
    add("--out", metavar="FIT.npz", help="file to write: geometry, expression, pose, error")
    add("--overlay", metavar="O.mp4", help="video to write: mesh and landmarks over the face")
    add("--detector", default="dlib", metavar="NAME", help="face detector (default: dlib)")
    help = "fits its landmarks into its folder fits; a second call goes on there"
    add("--data", metavar="DATA_DIR/NAME/CONFIG", help=help)

    add = command(
        _dub,
        "dub",
        "Make the person of a portrait video say a recording, or a text; the mouth alone changes.",
        "flax-talk dub --video me.mp4 --audio voice.wav --out dubbed.mp4\n"
        "  flax-talk dub --batch pairs.csv --out-dir videos",
    ).add_argument
    _add_dubbing(add, "finish", is_whole=True)
    _add_batch(add, "video")
    for stage, summary in (
        ("translate", "Work out what the mouth does by a sound."),
        ("retime", "Choose frames of a target video that suit a speech."),
        ("render", "Redraw the mouths of aligned faces."),
        ("finish", "Put the redrawn mouths back into the target video."),
    ):
        out = " --out dubbed.mp4" if stage == "finish" else ""
        add = command(
            _dub,
            stage,
            f"{summary} A stage of dub; those before it are done first, if need be.",
            f"flax-talk {stage} --video me.mp4 --audio voice.wav --keep stages{out}",
        ).add_argument
        _add_dubbing(add, stage)

    add = command(
        _evaluate,
        "evaluate",
        "Measure a checkpoint on clips of a split, or videos against references of the same names.",
        "flax-talk evaluate --checkpoint runs/small --data-dir data --split test --out results\n"
        "  flax-talk evaluate --videos mine --references real --metrics psnr,ssim,cpbd",
    ).add_argument
    add("--checkpoint", metavar="W", help="folder of a run of train.py, or exported")
    add("--data-dir", metavar="DIR", help="prepared data, if not where the run had it")
    add("--dataset", metavar="DATASET[:CONFIG]", help="such as grid, if not the run's")
    help = "train, validation or test, or such as 's1[-30:]' (default: test)"
    add("--split", default="test", metavar="SPLIT", help=help)
    add("--limit", type=_positive, default=0, metavar="N", help="the first so many clips only")
    help = "clips generated at once (default: as in training)"
    add("--batch-size", type=_positive, default=0, metavar="N", help=help)
    add("--videos", metavar="DIR", help="measure these videos, whoever made them ...")
    add("--references", metavar="DIR", help="... against these, by file name")
    add("--aligned", action="store_true", help="the frames of --videos are aligned faces already")
    _add_measures(add)
    help = "folder for metrics.json, table.md, clips.csv and figures; a second call goes on there"
    add("--out", metavar="DIR", help=help)

    add = command(
        _ablate,
        "ablate",
        "Train and measure each row of a paper's ablation; the same command goes on.",
        "flax-talk ablate --system temporal_gan_2019 --dataset synthetic_grid --workdir runs/a",
    ).add_argument
    add("--system", required=True, metavar="S", help="such as temporal_gan_2019")
    add("--dataset", required=True, metavar="D", help="such that configs/S_D.py is a config file")
    add("--workdir", required=True, metavar="W", help="folder of the runs and the table")
    add("--variant", default="small", metavar="V", help="of the config file (default: small)")
    add("--rows", metavar="NAME,...", help="of the ablation (default: all)")
    help = "a field of every row's config, such as train.max_steps=100; may be repeated"
    add("--set", action="append", default=[], metavar="FIELD=VALUE", help=help)
    add("--split", default="test", metavar="SPLIT", help="to measure on (default: test)")
    add("--limit", type=_positive, default=0, metavar="N", help="the first so many clips only")
    _add_measures(add)

    add = command(
        _export,
        "export",
        "Write the generator of a run into a small folder that can be passed on.",
        "flax-talk export --checkpoint runs/small --out exported/small",
    ).add_argument
    add("--checkpoint", required=True, metavar="W", help="folder of a run of train.py")
    add("--out", required=True, metavar="DIR", help="folder to write; with --format torch, a file")
    help = "flax for this program; torch, as temporal_gan_2019's authors have it (default: flax)"
    add("--format", default="flax", choices=("flax", "torch"), help=help)
    help = "of the weights (default: float16; with --format torch float32)"
    add("--dtype", choices=("float16", "float32"), help=help)

    add = command(
        _import,
        "import",
        "Make a checkpoint of weights that a system's authors have published.",
        "flax-talk import temporal_gan_2019 grid.dat --out published/grid",
    ).add_argument
    add("system", metavar="SYSTEM", choices=("temporal_gan_2019",), help="temporal_gan_2019")
    add("file", metavar="FILE", help="as published, such as grid.dat")
    add("--out", required=True, metavar="DIR", help="folder to write")

    add = command(
        _info,
        "info",
        "Show versions, devices and face detectors, and what a checkpoint holds.",
        "flax-talk info --checkpoint runs/small",
    ).add_argument
    add("--checkpoint", metavar="W", help="folder of a run of train.py")

    command(
        _doctor,
        "doctor",
        "Try what this machine can do, and say what to install for the rest.",
        "flax-talk doctor",
    )

    add = command(
        _report,
        "report",
        "Draw a run as one page to pass on: losses, validation, samples, config.",
        "flax-talk report --workdir runs/small --out report.html",
    ).add_argument
    add("--workdir", required=True, metavar="W", help="folder of a run of train.py")
    add("--out", metavar="OUT.html", help="page to write (default: report.html in the folder)")
    help = "of flax-talk evaluate --out (default: the newest in the folder)"
    add("--evaluation", metavar="DIR", help=help)

    add = command(
        _app,
        "app",
        "Show a page in the browser that animates, dubs and streams.",
        "flax-talk app --checkpoint runs/small runs/large --port 8000",
        has_json=False,
    ).add_argument
    help = "folders of runs, or exported, that can be chosen besides the one that ships"
    add("--checkpoint", nargs="+", default=(), metavar="W", help=help)
    help = "address to listen at (default: 127.0.0.1; 0.0.0.0 shows it to the network)"
    add("--host", default="127.0.0.1", metavar="HOST", help=help)
    add("--port", type=int, default=7860, metavar="N", help="of it (default: 7860)")
    help = "of speech and of videos to dub (default: 60)"
    add("--max-seconds", type=float, default=60, metavar="S", help=help)
    help = "largest file to upload (default: 50mb)"
    add("--max-file", default="50mb", metavar="SIZE", help=help)

    add = command(
        _completion,
        "completion",
        "Print what makes a shell complete the words of flax-talk.",
        "flax-talk completion bash",
        has_json=False,
    ).add_argument
    add("shell", choices=("bash", "zsh", "tcsh"), help="bash, zsh or tcsh")
    return parser


def _add_batch(add: Callable[..., Any], face: str) -> None:
    help = f"table with the columns {face}, audio, text, voice and out: a video for each row; "
    help += "2 is the exit code if none can be made; those that exist are skipped"
    add("--batch", metavar="PAIRS.csv", help=help)
    add("--out-dir", metavar="DIR", help="folder of their videos, and of report.csv: what failed")
    help = "rows under way at a time (default: 2)"
    add("--jobs", type=_positive, default=2, metavar="N", help=help)


def _add_dubbing(add: Callable[..., Any], until: str, is_whole: bool = False) -> None:
    required = not is_whole  # it may have a table instead
    help = "the target: one face in every frame"
    add("--video", required=required, metavar="VIDEO", help=help)
    add("--audio", metavar="WAV", help="sound file, or video with sound")
    add("--text", metavar="WORDS", help="speak this instead, with espeak-ng")
    add("--voice", default="en-us", metavar="NAME", help="of --text, such as en-gb-x-rp+f2")
    if until == "finish":
        add("--out", required=required, metavar="OUT.mp4", help="video to write")
    help = "folder for what each stage finds, as npz and as video; a second call goes on there"
    add("--keep", metavar="DIR", help=help)
    help = "of audio_to_expression: a run, or exported (default: the one that ships)"
    add("--translation", metavar="W", help=help)
    help = "of video_renderer, likewise"
    add("--renderer", metavar="W", help=help)
    help = "of training on the target, which show the renderer its mouth (default: 150)"
    add("--adapt", type=int, metavar="STEPS", help=help)
    for step, help in (
        ("retime", "take the frames of the target in their order"),
        ("smooth", "leave the landmarks of the mouth as they are"),
        ("deflicker", "leave the colours as they are drawn"),
        ("teeth", "leave the teeth as they are drawn"),
        ("blend", "mix by the soft mask alone, without Poisson blending"),
    ):
        add(f"--no-{step}", action="store_true", help=help)
    add("--detector", default="dlib", metavar="NAME", help="face detector (default: dlib)")
    add("--seed", type=int, default=0, metavar="N", help="of the noise under the mouth")
    add("--mark", action="store_true", help="write SYNTHETIC into every frame")
    if until != "finish":
        add("--out", help=argparse.SUPPRESS)
    # Whatever the command is called, the stages before it come first.
    add("--until", default=until, help=argparse.SUPPRESS)


def _add_measures(add: Callable[..., Any]) -> None:
    help = "names or families, such as psnr,ssim,synchrony (default: all that can be measured)"
    add("--metrics", metavar="NAME,...", help=help)
    add("--syncnet", metavar="W", help="judge of synchrony (default: the one that ships)")
    add("--lipnet", metavar="W", help="judge of words (default: the one that ships)")
    help = "judge of action units (default: the one that ships)"
    add("--au-classifier", metavar="W", help=help)
    add("--embedder", metavar="NAME", help="of faces, for the identity (default: dlib)")
    add("--detector", metavar="NAME", help="face detector (default: dlib)")
    add("--vgg19", metavar="FILE", help="weights of VGG-19, for the perceptual distance")
    add("--inception", metavar="FILE", help="weights of InceptionV3, for FID and IS")


if __name__ == "__main__":
    sys.exit(main())
