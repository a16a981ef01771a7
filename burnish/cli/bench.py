"""burnish bench: how fast prefill and decode are, how soon they begin, what they take, and where the time goes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from burnish.cli._errors import Inconclusive
from burnish.cli._options import (
    activations_option,
    backend_option,
    common_options,
    load_module,
    note_choices,
    refuse_fallbacks,
    require_kernels_option,
    source_argument,
    threads_option,
)
from burnish.cli._progress import show_progress

if TYPE_CHECKING:
    from burnish.ir.module import Module
    from burnish.runtime.executable import Executable
    from burnish.runtime.measure import Spread, Timed
    from burnish.runtime.profile import TimeShare

#: what is compared with an earlier result, how it is called, and its unit
FIGURES = {
    "prefill_tokens_per_s": ("prefill", "tokens/s"),
    "decode_tokens_per_s": ("decode", "tokens/s"),
    "first_token_s": ("first token", "s"),
}


class _Work(NamedTuple):
    """What one run does."""

    prompt: int
    new: int


@click.command()
@source_argument
@click.option("--prompt-tokens", metavar="N", type=click.IntRange(1), default=128, show_default=True)
@click.option("--new-tokens", metavar="N", type=click.IntRange(1), default=32, show_default=True)
@click.option(
    "--repeat",
    metavar="N",
    type=click.IntRange(1),
    default=5,
    show_default=True,
    help="Runs, after one to warm up, and starts of a fresh process.",
)
@click.option(
    "--compare",
    metavar="OLD.json",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Print how many times as much each figure is as in the output of --json of an earlier run.",
)
@click.option("--first-token", "only_first", is_flag=True, help="Only make the first token behind the prompt, and end.")
@backend_option
@activations_option
@threads_option
@require_kernels_option
@common_options
def command(
    source: Path,
    prompt_tokens: int,
    new_tokens: int,
    repeat: int,
    compare: Path | None,
    only_first: bool,
    backend: str,
    activations: str | None,
    require_kernels: bool,
    as_json: bool,
) -> None:
    """Measure how fast SRC runs, and what it takes.

    Tokens a second of prefill and of decode; seconds from the start of a process to its first token; the most memory
    that was held; and how much of what this machine's memory gives the weights and states that a token reads come to.

    Where nodes run one by one (NumPy), one more run, with a probe, shows the share of each kind of op.
    """
    from burnish.runtime.doors import executable

    module = load_module(source)
    model = executable(module, backend, activations or "", progress=show_progress)
    work = _Work(prompt_tokens, new_tokens)
    _check(model, work)
    if require_kernels:
        refuse_fallbacks(model)
    if only_first:
        _run(model, work._replace(new=0))
        click.echo("first token")
        return
    setting = _setting(module, work, backend, activations)
    old = None if compare is None else _earlier(compare, setting)
    found = {"setting": setting, **_measured(model, work, repeat)}
    found["first_token_s"] = _starts(source, work, backend, activations, repeat)
    shares = _shares(model, work)
    for note in (notes := note_choices(model)):
        click.echo(f"note: {note}", err=True)
    if old is not None:
        found["times_as_much"] = {name: found[name].ratio(old[name]) for name in FIGURES}
    if as_json:
        plain = {k: v._asdict() if hasattr(v, "_asdict") else v for k, v in found.items()}
        if old is not None:
            plain["times_as_much"] = {k: v._asdict() for k, v in found["times_as_much"].items()}
        click.echo(json.dumps(plain | {k: s.as_json() for k, s in shares.items()} | {"notes": notes}))
        return
    click.echo(_text(found, work, repeat))
    if old is not None:
        click.echo(f"\ntimes as much as in {compare}:")
        for name, ratio in found["times_as_much"].items():
            same = "; no more than the runs differ" if ratio.least <= 1 <= ratio.most else ""
            click.echo(f"{FIGURES[name][0]:12} {ratio.median:9.2f}  ({ratio.least:.2f} to {ratio.most:.2f}{same})")
    for phase, share in shares.items():
        click.echo(f"\n{phase}, where the time goes:\n{share.text()}")


def _check(model: Executable, work: _Work) -> None:
    if not model.is_generative:
        raise click.UsageError("the model makes no text; bench measures prefill and decode")
    wanted = work.new + (0 if model.has_encoder else work.prompt)
    if model.context is not None and wanted > model.context:
        raise click.UsageError(
            f"{wanted} tokens do not fit the model's context of {model.context}: lower --prompt-tokens or --new-tokens"
        )


def _run(model: Executable, work: _Work, probes: Mapping[str, Any] | None = None) -> tuple[Timed, Timed, Any]:
    """Prefill, decode, and the session. The prompt is for an encoder where there is one; its decoder gets a token."""
    import numpy as np

    from burnish.runtime.measure import timed

    probes = probes or {}
    ids, source = np.ones((1, work.prompt), np.int32), None
    if model.has_encoder:
        ids, source = ids[:, :1], ids
    session: Any = None

    def prefill() -> None:
        nonlocal session
        session = model.start(1, ids.shape[1] + work.new, encoder_ids=source, probe=probes.get("prefill"))
        model.prefill(ids, session, probe=probes.get("prefill"))

    def decode() -> None:
        for _ in range(work.new):
            model.decode(np.ones(1, np.int32), session, probe=probes.get("decode"))

    return timed(prefill), timed(decode), session


def _measured(model: Executable, work: _Work, repeat: int) -> dict[str, Any]:
    """The figures of runs in this process."""
    from burnish.backends.native.threads import cores
    from burnish.runtime.measure import Spread, peak_memory, read_bandwidth, state_bytes, weight_bytes

    runs = []
    for run in range(repeat + 1):
        show_progress("runs", run, repeat + 1)
        prefill, decode, session = _run(model, work)
        runs.append((prefill, decode))
    show_progress("runs", repeat + 1, repeat + 1)
    prefills, decodes = zip(*runs[1:], strict=True)
    held = peak_memory()
    nbytes = weight_bytes(model.module) + state_bytes(session, session.capacity - work.new // 2)
    limit = read_bandwidth(cores())
    speed = Spread.of(work.new / t.wall for t in decodes)
    return {
        "prefill_tokens_per_s": Spread.of(work.prompt / t.wall for t in prefills),
        "decode_tokens_per_s": speed,
        "prefill_cores": Spread.of(t.cpu / t.wall for t in prefills),
        "decode_cores": Spread.of(t.cpu / t.wall for t in decodes),
        "peak_memory_bytes": held,
        "bytes_of_a_token": nbytes,
        "read_bytes_per_s": limit,
        "share_of_bandwidth": nbytes * speed.median / limit.most,
    }


def _starts(source: Path, work: _Work, backend: str, activations: str | None, repeat: int) -> Spread:
    """Seconds from the start of a process to the first token, its files being in the system's cache."""
    from burnish.runtime.measure import Spread

    meta = click.get_current_context().meta
    arguments = ["bench", source, "--first-token", "--prompt-tokens", work.prompt, "--new-tokens", work.new]
    arguments += ["--backend", backend, *(["--activations", activations] if activations else [])]
    for name in ("task", "budget"):
        arguments += [f"--{name}", meta[name]] if meta[name] else []
    for plugin in meta["plugins"]:
        arguments += ["--plugin", plugin]
    line, times = [sys.executable, "-P", "-m", "burnish", *map(str, arguments)], []
    same = {**os.environ, "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))}  # this Burnish, and no other
    for start in range(repeat):
        show_progress("starts", start, repeat)
        began = time.perf_counter()
        with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=same) as process:
            assert process.stdout is not None
            said = process.stdout.readline()
            times.append(time.perf_counter() - began)
            _, error = process.communicate()
        if not said:
            raise Inconclusive(f"a process that was started for a first token made none: {error.strip()}")
    show_progress("starts", repeat, repeat)
    return Spread.of(times)


def _shares(model: Executable, work: _Work) -> dict[str, TimeShare]:
    """Where the time goes, apart from the timed runs: a probe costs time itself."""
    from burnish.runtime.profile import TimeShare

    if not model.stateful.has_probes:
        return {}
    shares = {"prefill": TimeShare(), "decode": TimeShare()}
    _run(model, work, shares)
    return shares


def _setting(module: Module, work: _Work, backend: str, activations: str | None) -> dict[str, Any]:
    """What a measurement is of: only those of equal settings are compared."""
    from burnish.backends.native.threads import cores
    from burnish.runtime.measure import machine

    nbytes = sum(n for w in module.weights.values() if isinstance(n := w.type.nbytes, int))
    return {
        "model": f"{module.facts.architecture or 'a model'}, {len(module.weights)} weights, {nbytes:,} bytes",
        "machine": machine(),
        "threads": cores(),
        "backend": backend,
        "activations": activations or "",
        "prompt_tokens": work.prompt,
        "new_tokens": work.new,
    }


def _earlier(file: Path, setting: Mapping[str, Any]) -> dict[str, Spread]:
    """The figures of an earlier run of the same setting. Raises UsageError for any other."""
    from burnish.runtime.measure import Spread, differences

    try:
        found = json.loads(file.read_text("utf-8"))
        then, figures = dict(found["setting"]), {name: Spread(**found[name]) for name in FIGURES}
    except OSError as e:
        raise click.UsageError(f"--compare: {file}: {e.strerror}") from None
    except (ValueError, TypeError, KeyError):
        raise click.UsageError(f"--compare: {file} is not what `burnish bench --json` prints") from None
    if lines := differences(then, setting):
        some = "\n  ".join(lines)
        raise click.UsageError(f"--compare: {file} is of something else:\n  {some}")
    return figures


def _text(found: Mapping[str, Any], work: _Work, repeat: int) -> str:
    setting, of = found["setting"], f"median of {repeat}" if repeat > 1 else "one run"
    lines = [f"{setting['model']}", f"{setting['machine']}; {setting['threads']} threads", ""]
    for name, (called, unit) in FIGURES.items():
        speed = found[name]
        more = f"{found[f'{called}_cores'].median:.2f} cores, " if f"{called}_cores" in found else ""
        tokens = work.new if called == "decode" else work.prompt
        spread = f"{speed.least:,.2f} to {speed.most:,.2f}, " if repeat > 1 else ""
        lines.append(f"{called:12} {speed.median:9,.2f} {unit:8}  ({tokens} tokens, {more}{spread}{of})")
    if (held := found["peak_memory_bytes"]) is not None:
        lines.append(f"{'memory':12} {held / 1e6:9,.0f} MB        (at most)")
    reads, limit = found["bytes_of_a_token"], found["read_bytes_per_s"]
    lines.append(
        f"{'bandwidth':12} {100 * found['share_of_bandwidth']:9,.1f} %         ({reads / 1e6:,.2f} MB of weights and "
        f"states for a token of decode, of {limit.most / 1e9:.1f} GB/s)"
    )
    return "\n".join(lines)
