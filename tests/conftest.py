"""What all tests share: the repository on the path, hypothesis without chance, registries that are put back."""

import gc
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

os.environ["HF_HUB_OFFLINE"] = "1"  # before its library is imported: no test asks anybody but its own server
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # for `from tests.ir.oracles import …`

settings.register_profile(
    "burnish",
    derandomize=True,
    deadline=None,
    database=None,
    max_examples=100,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)
settings.load_profile("burnish")  # a test that needs more examples, or fewer, asks for a share of these
settings.register_profile("fuzz", settings(), derandomize=False, print_blob=True, max_examples=2000)


GOLDEN = Path(__file__).parent / "golden"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="Write golden files anew in place of comparing.")


def pytest_collection_finish() -> None:
    """What was imported stays: the collector of garbage need not look at it again and again."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """`golden("fuse-fma", "mul_add")`: the pass turns golden/fuse-fma/mul_add.before.graph into mul_add.after.graph,
    which ends with what became of each place, and the two graphs agree as far as the pass's exactness goes."""
    from burnish.debug.check import Checker
    from burnish.ir.parser import parse
    from burnish.passes.engine import Context
    from burnish.passes.pipelines import parse_pass

    def compare(pass_text: str, case: str) -> None:
        pass_ = parse_pass(pass_text)
        before, after = (GOLDEN / pass_.name / f"{case}.{when}.graph" for when in ("before", "after"))
        module = parse(before.read_text("utf-8"))
        context = Context(module.copy())
        context.run(pass_)
        remarks = [f"# {str(r).partition(' ')[2]}\n" for r in context.remarks]  # without the id
        text = str(context.module) + "".join(remarks)
        if request.config.getoption("--update-golden"):
            before.write_text(str(module), "utf-8")
            after.write_text(text, "utf-8")
        assert after.exists(), f"{after} is missing; pytest --update-golden writes it"
        assert before.read_text("utf-8") == str(module), f"{before} is not in normal form; see --update-golden"
        assert text == after.read_text("utf-8")
        (verdict,) = Checker(module)(pass_text)
        assert verdict.fault is None, verdict

    return compare


@dataclass(frozen=True)
class Export:
    """A tiny model: the oracle itself, its checkpoint, and the ONNX file that was exported from it."""

    model: Any
    checkpoint: Path
    onnx: Path


@pytest.fixture(scope="session")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Export]:
    """`exports("llama", batch=1, head_dim=64)`: made once a session, for an export takes seconds."""
    from tests import models

    @cache
    def export(family: str, batch: int | None = None, length: int | None = None, **changes: Any) -> Export:
        model = getattr(models, family)(**changes)
        folder = tmp_path_factory.mktemp(family)
        onnx = models.exported(model, folder / "model.onnx", batch, length)
        return Export(model, models.saved(model, folder / "checkpoint"), onnx)

    return export


@pytest.fixture(scope="session")
def texts_read_back() -> set[int]:
    """The hashes of texts of modules that read back as the same module: each is looked at once a session."""
    return set()


@pytest.fixture(autouse=True)
def every_module_round_trips(texts_read_back: set[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a pass makes in any test reads back from its text as the same module."""
    from burnish.ir.parser import parse
    from burnish.ir.verify import verify
    from burnish.passes import door

    def checked(module: Any) -> None:
        verify(module)
        text = str(module)
        if hash(text) not in texts_read_back:
            again = parse(text, module.constants())
            assert again == module
            assert str(again) == text
            texts_read_back.add(hash(text))

    monkeypatch.setattr(door, "verify_signatures", checked)  # which is called after every pass that changed something


@pytest.fixture
def registries() -> Iterator[None]:
    """What a test defines, and what plugins it loads, is gone after it."""
    from burnish.ir.registry import Registry

    saved = Registry.snapshot()
    yield
    Registry.restore(saved)
