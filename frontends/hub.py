"""Models by their names on the Hugging Face hub, `org/name[@revision][/file]`, by its own library, through its cache.

Names have the form of that library's file system (`hf://` before them is understood, and needed where a folder called
`org` is there). Only what is read of a model is fetched: its configs and tokenizer, and the weights in the form that
would be taken from a folder that has them all.
"""

from __future__ import annotations

import glob
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote

from burnish.frontends.config import Config, LoadError, read_object, shown
from burnish.frontends.on_disk import listed
from burnish.frontends.sentence import module_folders
from burnish.frontends.weight_files import INDEX, consolidated, weights_named
from burnish.ir.budget import check_disk

__all__ = ["Name", "fetched", "name_of"]

Progress = Callable[[str, int, int], None]

#: of names
_NAME = re.compile(
    r"(?P<hf>hf:/+)?(?P<repo>[\w.-]+/[\w.-]+)"
    r"(?:@(?P<revision>refs/(?:pr|convert)/[\w.-]+|[^/@]+))?(?:/(?P<file>[^@]+))?"
)
_COMMIT = re.compile(r"[0-9a-f]{40}")
#: beside the weights: configs, and what tokenizers are made of
_BESIDE = re.compile(r"[^/]*\.(?:json|jinja|model)|vocab\.txt|merges\.txt")
_LARGEST_BESIDE = 256 << 20  # bytes; larger ones are no configs


class Name(NamedTuple):
    """A model on the hub, and the file of it that is meant: "" for what a folder with all of it would be read as."""

    repo: str
    revision: str
    file: str

    def __str__(self) -> str:
        revision = f"@{self.revision}" if self.revision != "main" else ""
        return f"{self.repo}{revision}" + (f"/{self.file}" if self.file else "")


def name_of(path: Path) -> Name | None:
    """The name that a path is; None where it is none or, unless it begins with `hf:`, something is there."""
    match = _NAME.fullmatch(path.as_posix())
    if match is None or (not match["hf"] and Path(path.parts[0]).exists()):
        return None
    return Name(match["repo"], unquote(match["revision"] or "main"), match["file"] or "")


#: where those lie that were asked for: a hub is asked once in a process
_FETCHED: dict[Name, Path] = {}


def fetched(name: Name, progress: Progress | None = None) -> Path:
    """The folder, or the file, with what is read of a model: in the cache of the hub's library, fetched where it lacks.

    `progress(what, done, total)` is told of bytes. With `HF_HUB_OFFLINE=1` nothing is asked of the hub: what the cache
    has is taken. Raises LoadError, and BudgetError where the disk is too small.
    """
    if name not in _FETCHED:
        with _explained(name):
            _FETCHED[name] = _fetched(name, progress)
    return _FETCHED[name]


def _fetched(name: Name, progress: Progress | None) -> Path:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import OfflineModeIsEnabled

    try:
        info = _asked(HfApi().model_info, name.repo, revision=name.revision, files_metadata=True)
    except OfflineModeIsEnabled:
        folder = _snapshot(name, [name.file or "config.json"])
        if not (folder / name.file).exists():
            raise LoadError(f"the cache does not have the file; it has {listed(_names(folder))}") from None
        return folder / name.file
    fetch = _Fetch(name, str(info.sha), {f.rfilename: int(f.size or 0) for f in info.siblings or ()}, progress)
    if not _COMMIT.fullmatch(fetch.commit):
        raise LoadError(f"the hub names no commit of it, but {shown(fetch.commit)}")
    if outside := [n for n in fetch.sizes if n.startswith("/") or ".." in n.split("/")]:
        raise LoadError(f"has a file {shown(outside[0])}, a name that leads out of its folder")
    if name.file:
        fetch(fetch.with_data(name.file))
        return fetch.folder / name.file
    fetch(fetch.beside(""))
    folders = ["", *(f"{m}/" for m in module_folders(fetch.folder))]
    fetch([n for f in folders[1:] for n in fetch.beside(f)])
    fetch([n for f in folders for n in fetch.weights(f)] or fetch.packed())
    return fetch.folder


@dataclass(frozen=True)
class _Fetch:
    """What a commit has, by name and bytes, and how it gets into the cache."""

    name: Name
    commit: str
    sizes: Mapping[str, int]
    progress: Progress | None

    @property
    def folder(self) -> Path:
        """Where the cache has the commit, as the hub's library documents it."""
        from huggingface_hub import constants
        from huggingface_hub.file_download import repo_folder_name

        kept = repo_folder_name(repo_id=self.name.repo, repo_type="model")
        return Path(constants.HF_HUB_CACHE, kept, "snapshots", self.commit)

    def __call__(self, files: Sequence[str]) -> None:
        """Have these files there, whole. Raises LoadError."""
        lacking = [n for n in files if not self._is_whole(n)]
        if not lacking:
            return
        check_disk(sum(self.sizes[n] for n in lacking), self.folder, str(self.name))
        cut = [n for n in lacking if (self.folder / n).exists()]
        for n in cut:  # or the library goes on linking to what it had for it
            (self.folder / n).unlink()
        if _snapshot(self.name, lacking, self.progress, anew=bool(cut)) != self.folder:
            raise LoadError("the model was changed on the hub in the meantime: try again")
        for n in lacking:
            if not self._is_whole(n):
                raise LoadError(f"{n} did not come with the {self.sizes[n]} bytes that the hub says it has: try again")

    def _is_whole(self, file: str) -> bool:
        """Whether the cache has a file with as many bytes as the hub says, which may say nothing: 0."""
        path = self.folder / file
        return path.exists() and self.sizes[file] in (0, path.stat().st_size)

    def beside(self, folder: str) -> list[str]:
        """The configs and the like of one folder, "" or one that ends with a slash."""
        inside = ((n, n.removeprefix(folder)) for n in self.sizes if n.startswith(folder))
        return [n for n, file in inside if _BESIDE.fullmatch(file) and self.sizes[n] <= _LARGEST_BESIDE]

    def with_data(self, file: str) -> list[str]:
        """A file, its data where that lies beside it, and the configs of its folder. Raises LoadError."""
        if file not in self.sizes:
            raise LoadError(f"has no file {shown(file)}; it has {listed(sorted(self.sizes))}")
        folder = file[: file.rfind("/") + 1]
        parts = self.consolidated(folder)
        return [*(n for n in self.sizes if n.startswith(file)), *(parts if file in parts else ()), *self.beside(folder)]

    def weights(self, folder: str) -> list[str]:
        """The weights in a folder, in the form that is read where there are several; none where there are none."""
        found = weights_named(lambda n: folder + n in self.sizes)
        if found is None:
            return self.consolidated(folder)
        first = folder + found[1]
        if not first.endswith(INDEX):
            return [first]
        self([first])
        shards = Config(read_object(self.folder / first), first).section("weight_map").values.values()
        return [n for n in dict.fromkeys(f"{folder}{file}" for file in shards) if n in self.sizes]

    def consolidated(self, folder: str) -> list[str]:
        """Meta's or Mistral's own weights in a folder."""
        inside = (n.removeprefix(folder) for n in self.sizes if n.startswith(folder))
        return [folder + n for n in consolidated(n for n in inside if "/" not in n)]

    def packed(self) -> list[str]:
        """The one file that holds a whole model. Raises LoadError where there is none, or several."""
        found = [n for n in self.sizes if n.endswith((".gguf", ".onnx"))]
        if len(found) == 1 and found[0].endswith(".gguf") and "/" not in found[0]:
            return found
        if found:
            raise LoadError(f"is not one model alone: name a file of it, as {self.name}/{found[0]}: {listed(found)}")
        raise LoadError(f"has no weights that are read; it has {listed(sorted(self.sizes))}")


def _snapshot(name: Name, files: Sequence[str], progress: Progress | None = None, anew: bool = False) -> Path:
    """Where the cache has the files; `anew`: what it has already is fetched again."""
    from huggingface_hub import snapshot_download

    folder = _asked(
        snapshot_download,
        name.repo,
        revision=name.revision,
        allow_patterns=[glob.escape(n) for n in files],
        library_name="burnish",
        force_download=anew,
        tqdm_class=_bar(str(name), progress),
    )
    return Path(folder)


def _asked(call: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """What the hub's library gives. Raises LoadError where it stumbles over an answer that is none of a hub."""
    from huggingface_hub import constants

    try:
        return call(*args, **options)
    except (AssertionError, AttributeError, LookupError, TypeError, ValueError) as e:
        if type(e).__module__ == "huggingface_hub.errors":
            raise
        what = f"answers, and not as a hub does ({f'{type(e).__name__}: {e}'[:200]}); is there a page to log in?"
        raise LoadError(f"{constants.ENDPOINT} {what}") from e


def _bar(what: str, progress: Progress | None) -> type:
    """What the hub's library takes for a bar of tqdm: tells `progress` of the bytes that come."""
    from tqdm import tqdm

    class Bar(tqdm):  # type: ignore[misc]
        def __init__(self, *args: Any, **options: Any) -> None:
            self.told = progress if options.get("unit") == "B" else None
            super().__init__(*args, **{**options, "disable": True})

        def update(self, n: float | None = 1) -> None:
            self.n += n or 0
            if self.told is not None and self.total:
                self.told(f"fetching {what}", int(min(self.n, self.total)), int(self.total))

    return Bar


@contextmanager
def _explained(name: Name) -> Iterator[None]:
    """What the hub's library raises, as LoadErrors that say what to do."""
    from huggingface_hub import constants, errors

    def told(why: str) -> LoadError:
        return LoadError(f"{name}: {why}")

    hub = constants.ENDPOINT
    try:
        yield
    except LoadError as e:
        raise told(str(e)) from None
    except errors.GatedRepoError:
        raise told(f"is for those who agreed to its terms: do so at {hub}/{name.repo}, then `hf auth login`") from None
    except errors.RepositoryNotFoundError:
        raise told(f"there is no such folder, and no such model at {hub}; for a private one, `hf auth login`") from None
    except errors.RevisionNotFoundError:
        raise told(f"the model has no revision {shown(name.revision)}") from None
    except errors.LocalEntryNotFoundError as e:
        if constants.is_offline_mode():
            why = "there is no such folder; HF_HUB_OFFLINE is set, and the cache does not have it, or not all of it"
        else:
            why = _reached(e.__cause__ or e)
        raise told(why) from None
    except (errors.HTTPError, errors.HFValidationError) as e:  # type: ignore[attr-defined]
        raise told(_reached(e)) from None
    except OSError as e:
        raise told(f"cannot be fetched: {str(e).splitlines()[0]}") from None


def _reached(e: BaseException) -> str:
    from huggingface_hub import constants

    what = str(e).strip().split("\n")[0][:200]
    return (
        f"there is no such folder; {constants.ENDPOINT} cannot be asked ({what}); "
        "with HF_HUB_OFFLINE=1 what the cache has is taken"
    )


def _names(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())
