"""Models by their names on a hub: a small one on this machine, and its own library's cache."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub import constants

import burnish
from burnish.frontends import hub
from burnish.frontends.config import LoadError
from burnish.frontends.hub import Name, fetched, name_of
from burnish.ir.budget import BudgetError
from burnish.runtime.sources import tokenizer_of
from tests import models
from tests.frontends.hub_server import Fault, serving

ROOT = Path(__file__).resolve().parents[2]
TINY = ROOT / "examples/tiny-lm"


@dataclass
class Hub:
    url: str
    asked: list[str]
    #: `root/org/name/revision/…` are the files
    root: Path
    #: what is answered otherwise
    faults: dict[str, Fault]

    def add(self, name: str, *files: str, revision: str = "main", of: Path | None = None) -> Path:
        """A model, of such files and those of a folder."""
        folder = self.root / name / revision
        if of is not None:
            shutil.copytree(of, folder)
        for file in files:
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / file).write_text(file)
        return folder

    def sent(self) -> set[str]:
        """The files that were fetched."""
        return {
            a.partition("/resolve/")[2].partition("/")[2] for a in self.asked if a.startswith("GET") and "resolve" in a
        }


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    root = tmp_path / "served"
    root.mkdir()
    with serving(root) as (url, asked, faults):
        template = url + "/{repo_id}/resolve/{revision}/{filename}"
        for name, value in {"ENDPOINT": url, "HUGGINGFACE_CO_URL_TEMPLATE": template, "HF_HUB_OFFLINE": False}.items():
            monkeypatch.setattr(constants, name, value)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(hub, "_FETCHED", {})
        yield Hub(url, asked, root, faults)


def files_in(folder: Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}


# ---------------------------------------------------------------------------------------------------------------- names


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("org/name", Name("org/name", "main", "")),
        ("Org-1/Some.Model_2@v1.0", Name("Org-1/Some.Model_2", "v1.0", "")),
        ("org/name@refs/pr/7", Name("org/name", "refs/pr/7", "")),
        ("org/name@a%2Fb/onnx/model.onnx", Name("org/name", "a/b", "onnx/model.onnx")),
        ("hf://org/name/x-q4_0.gguf", Name("org/name", "main", "x-q4_0.gguf")),
        ("./org/name", Name("org/name", "main", "")),  # a path says no more than its parts
        ("name", None),
        ("/org/name", None),
        ("../org/name", None),
        ("org/na me", None),
        ("org/name@", None),
    ],
)
def test_what_is_a_name(path: str, name: Name | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert name_of(Path(path)) == name
    assert name is None or name_of(Path(str(name))) == name or "%2F" in path


def test_what_is_here_goes_first(served: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "org").mkdir()
    with pytest.raises(LoadError, match=r"nothing of that name in org; .* would be hf://org/tiny"):
        burnish.load("org/tiny")
    assert served.asked == []
    served.add("org/tiny", of=TINY)
    assert burnish.load("hf://org/tiny") == burnish.load(TINY)
    shutil.copytree(TINY, tmp_path / "org/tiny")
    before = len(served.asked)
    assert burnish.load("org/tiny") == burnish.load(TINY)
    assert len(served.asked) == before


# ------------------------------------------------------------------------------------------------------ what is fetched


def test_a_model_and_its_tokenizer_are_those_of_the_folder(served: Hub) -> None:
    served.add("org/tiny", of=TINY)
    module = burnish.load("org/tiny")
    assert module == burnish.load(TINY)
    name = next(iter(module.weights))
    assert (module.source.read(name) == burnish.load(TINY).source.read(name)).all()
    ours, here = tokenizer_of(Path("org/tiny")), tokenizer_of(TINY)
    assert ours is not None and here is not None and ours.encode("Bulavia") == here.encode("Bulavia")
    assert list(module.facts.eos) == list(burnish.load(TINY).facts.eos)


def test_only_what_is_read_is_fetched(served: Hub) -> None:
    others = ["pytorch_model.bin", "tf_model.h5", "onnx/model.onnx", "README.md", "model-00001-of-00002.safetensors"]
    served.add("org/tiny", *others, of=TINY)
    burnish.load("org/tiny")
    tiny = files_in(TINY) - {"README.md", "heldout.jsonl"}
    assert served.sent() == tiny


def test_it_is_asked_once_and_comes_from_the_cache_the_next_time(served: Hub) -> None:
    served.add("org/tiny", of=TINY)
    fetched(Name("org/tiny", "main", ""))
    first = len(served.asked)
    fetched(Name("org/tiny", "main", ""))
    assert len(served.asked) == first
    hub._FETCHED.clear()
    served.asked.clear()
    fetched(Name("org/tiny", "main", ""))
    assert served.sent() == set()


def test_shards_are_those_of_the_index(served: Hub, tmp_path: Path) -> None:
    folder = models.saved(models.llama(), tmp_path / "llama", max_shard_size="60KB")
    shards = {p.name for p in folder.glob("model-*.safetensors")}
    assert len(shards) > 1
    served.add("org/sharded", "model.fp16-00001-of-00002.safetensors", of=folder)
    assert burnish.load("org/sharded") == burnish.load(folder)
    assert {n for n in served.sent() if n.endswith(".safetensors")} == shards


def test_revisions(served: Hub, tmp_path: Path) -> None:
    other = models.saved(models.llama(), tmp_path / "llama")
    served.add("org/tiny", of=TINY)
    served.add("org/tiny", revision="v2", of=other)
    assert burnish.load("org/tiny@v2") == burnish.load(other)
    commit = fetched(Name("org/tiny", "v2", "")).name
    assert fetched(Name("org/tiny", commit, "")) == fetched(Name("org/tiny", "v2", ""))
    assert burnish.load("org/tiny") == burnish.load(TINY)


def test_the_modules_of_an_embedding_model(served: Hub, tmp_path: Path) -> None:
    folder = models.saved(models.bert(), tmp_path / "bert")
    kinds = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
    listed = [{"path": path, "type": f"sentence_transformers.models.{kind}"} for path, kind in kinds]
    (folder / "modules.json").write_text(json.dumps(listed))
    (folder / "1_Pooling").mkdir()
    pooling = {"word_embedding_dimension": 64, "pooling_mode_mean_tokens": True}
    (folder / "1_Pooling/config.json").write_text(json.dumps(pooling))
    served.add("org/bert", "README.md", "9_Other/config.json", of=folder)
    assert burnish.load("org/bert") == burnish.load(folder)
    assert "1_Pooling/config.json" in served.sent() and "9_Other/config.json" not in served.sent()


def test_a_file_of_a_model(served: Hub) -> None:
    served.add("org/packed", "small-q4_0.gguf", "small-q8_0.gguf", "onnx/model.onnx", "onnx/model.onnx_data")
    with pytest.raises(LoadError, match=r"name a file of it, as org/packed/onnx/model.onnx: .*small-q8_0.gguf"):
        fetched(Name("org/packed", "main", ""))
    path = fetched(Name("org/packed", "main", "small-q8_0.gguf"))
    assert path.name == "small-q8_0.gguf" and path.exists()
    fetched(Name("org/packed", "main", "onnx/model.onnx"))
    assert served.sent() == {"small-q8_0.gguf", "onnx/model.onnx", "onnx/model.onnx_data"}


def test_progress_is_told_of_bytes(served: Hub) -> None:
    served.add("org/tiny", of=TINY)
    told: list[tuple[str, int, int]] = []
    fetched(Name("org/tiny", "main", ""), lambda *how: told.append(how))
    size = (TINY / "model.safetensors").stat().st_size
    assert told and told[-1] == ("fetching org/tiny", size, size)
    assert all(done <= total for _, done, total in told)


# ------------------------------------------------------------------------------------------------------ what is refused


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (Name("org/none", "main", ""), r"org/none: there is no such folder, and no such model at http://127"),
        (Name("org/tiny", "v9", ""), r"org/tiny@v9: the model has no revision 'v9'"),
        (
            Name("org/gated", "main", ""),
            r"org/gated: is for those who agreed to its terms: .*/org/gated, then",
        ),
        (Name("org/tiny", "main", "x.gguf"), r"org/tiny/x.gguf: has no file 'x.gguf'; it has README.md, config.json"),
        (Name("org/tf", "main", ""), r"org/tf: has no weights that are read; it has config.json, tf_model.h5"),
        (Name("org/a..b", "main", ""), r"org/a..b: .*cannot be asked|org/a..b: there is no such"),
    ],
)
def test_what_is_not_there(served: Hub, name: Name, message: str) -> None:
    served.add("org/tiny", of=TINY)
    served.add("org/tf", "config.json", "tf_model.h5")
    served.add("org/gated", "config.json")
    with pytest.raises(LoadError, match=message):
        fetched(name)


def test_a_disk_that_is_too_small(served: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    served.add("org/tiny", of=TINY)
    full = os.statvfs_result((4096, 4096, 1000, 10, 10, 0, 0, 0, 0, 255))
    monkeypatch.setattr(os, "statvfs", lambda path: full)
    with pytest.raises(BudgetError, match="org/tiny"):
        fetched(Name("org/tiny", "main", ""))
    assert "model.safetensors" not in served.sent()


def test_without_a_hub_the_cache_is_taken_where_that_is_asked_for(served: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    served.add("org/tiny", of=TINY)
    here = fetched(Name("org/tiny", "main", ""))
    hub._FETCHED.clear()
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # nobody listens there
    with pytest.raises(LoadError, match=r"no such folder; http://127.0.0.1:9 cannot be asked .*with HF_HUB_OFFLINE=1"):
        fetched(Name("org/tiny", "main", ""))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    huggingface_hub.close_session()
    assert fetched(Name("org/tiny", "main", "")) == here
    with pytest.raises(LoadError, match="HF_HUB_OFFLINE is set, and the cache does not have it"):
        fetched(Name("org/other", "main", ""))
    with pytest.raises(LoadError, match=r"the cache does not have the file; it has config.json"):
        fetched(Name("org/tiny", "main", "other.gguf"))


INFO = "GET api/models/org/tiny/revision/main"
COMMIT = "b28b7af69320201d1cf206ebf28373980add1451"  # of main
LOG_IN = b"<html>Log in to this network</html>"


def info(**what: object) -> bytes:
    return json.dumps({"id": "org/tiny", "sha": COMMIT, "siblings": [{"rfilename": "config.json"}], **what}).encode()


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (LOG_IN, "answers, and not as a hub does .*is there a page to log in"),
        (b"[]", "answers, and not as a hub does"),
        (info(siblings="x"), "answers, and not as a hub does"),
        (info(siblings=None), "has no weights that are read"),
        (info(sha="../../../../etc"), r"the hub names no commit of it, but '../../../../etc'"),
        (info(sha=None), "the hub names no commit of it"),
        (info(siblings=[{"rfilename": "../../x.json"}]), "'../../x.json', a name that leads out of its folder"),
        (info(siblings=[{"rfilename": "/tmp/x.json"}]), "'/tmp/x.json', a name that leads out of its folder"),
        (info(siblings=[{"rfilename": "config.json", "size": 5}]), "config.json did not come with the 5 bytes"),
    ],
)
def test_answers_of_what_is_no_hub(served: Hub, answer: bytes, message: str) -> None:
    served.add("org/tiny", of=TINY)
    served.faults[INFO] = lambda send: send(200, answer, {"Content-Type": "application/json"})
    with pytest.raises(LoadError, match=f"^org/tiny: .*{message}"):
        fetched(Name("org/tiny", "main", ""))
    served.faults.clear()
    assert burnish.load("org/tiny") == burnish.load(TINY)


@pytest.mark.parametrize("request_", [INFO, f"HEAD org/tiny/resolve/{COMMIT}/config.json"])
def test_a_hub_that_hangs_up(served: Hub, request_: str) -> None:
    served.add("org/tiny", of=TINY)
    served.faults[request_] = lambda send: None
    with pytest.raises(LoadError, match=r"^org/tiny: (there is no such folder; )?http://127[^ ]* cannot be asked"):
        fetched(Name("org/tiny", "main", ""))
    served.faults.clear()
    assert burnish.load("org/tiny") == burnish.load(TINY)


@pytest.mark.parametrize(("file", "cut"), [("model.safetensors", 1000), ("config.json", 0)])
def test_a_file_that_came_in_part_or_as_another_is_fetched_again(served: Hub, file: str, cut: int) -> None:
    """Even where the hub's library has taken it into its cache."""
    served.add("org/tiny", of=TINY)
    body, headers = (TINY / file).read_bytes()[:cut] or LOG_IN, {"ETag": '"x"', "X-Repo-Commit": COMMIT}
    for method in ("HEAD", "GET"):
        served.faults[f"{method} org/tiny/resolve/{COMMIT}/{file}"] = lambda send: send(200, body, headers)
    with pytest.raises(LoadError, match=f"^org/tiny: {file} did not come with|Consistency check failed"):
        fetched(Name("org/tiny", "main", ""))
    served.faults.clear()
    folder = fetched(Name("org/tiny", "main", ""))
    assert burnish.load(folder) == burnish.load(TINY)
    (folder / file).resolve().write_bytes(body)  # as an interrupted copy of the cache leaves it
    hub._FETCHED.clear()
    assert (fetched(Name("org/tiny", "main", "")) / file).read_bytes() == (TINY / file).read_bytes()


@pytest.mark.parametrize(
    ("files", "read"),
    [
        (["flax_model.msgpack", "tf_model.h5"], {"flax_model.msgpack"}),
        (["weights.npz"], {"weights.npz"}),
        (["model_state.pdparams"], {"model_state.pdparams"}),
        (["pytorch_model.bin", "flax_model.msgpack", "weights.npz"], {"pytorch_model.bin"}),
        (["params.json", "consolidated.00.pth", "consolidated.01.pth", "other.pth"],
         {"params.json", "consolidated.00.pth", "consolidated.01.pth"}),
        (["params.json", "consolidated.safetensors", "model.safetensors"], {"params.json", "model.safetensors"}),
    ],
)  # fmt: skip
def test_weights_in_every_form_that_a_folder_may_have(served: Hub, files: list[str], read: set[str]) -> None:
    served.add("org/form", "config.json", *files)
    fetched(Name("org/form", "main", ""))
    assert served.sent() == read | {"config.json"}


def test_one_part_of_several_stands_for_all(served: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = ["consolidated.00.pth", "consolidated.01.pth"]
    served.add("org/meta", "params.json", *parts, "original/x.pth")
    here = fetched(Name("org/meta", "main", parts[1]))
    assert served.sent() == {"params.json", *parts}
    hub._FETCHED.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    huggingface_hub.close_session()
    assert fetched(Name("org/meta", "main", "")) == here.parent


def test_a_packed_file_in_a_folder_is_named(served: Hub) -> None:
    served.add("org/packed", "config.json", "sub/x-q4_0.gguf")
    with pytest.raises(LoadError, match=r"name a file of it, as org/packed/sub/x-q4_0.gguf"):
        fetched(Name("org/packed", "main", ""))


@pytest.mark.slow
def test_a_command_takes_a_name(served: Hub, tmp_path: Path) -> None:
    served.add("org/tiny", of=TINY)
    env = os.environ | {"HF_ENDPOINT": served.url, "HF_HOME": str(tmp_path / "home")}
    env.pop("HF_HUB_OFFLINE", None)
    how = [sys.executable, "-m", "burnish", "run", "org/tiny", "--prompt", "The capital of Bulavia is", "-n", "4"]
    for more in ({}, {"HF_HUB_OFFLINE": "1"}):
        found = subprocess.run(how, env=env | more, cwd=ROOT, capture_output=True, text=True, check=True)
        assert found.stdout.strip() == "Kroros." and found.stderr == ""
