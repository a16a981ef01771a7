"""How many threads kernels work on."""

import pytest

from burnish.backends.native.threads import cores


def test_the_environment_goes_before_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BURNISH_THREADS", raising=False)
    assert cores() >= 1
    monkeypatch.setenv("BURNISH_THREADS", "7")
    assert cores() == 7
    for wrong in ("0", "-1", "many"):
        monkeypatch.setenv("BURNISH_THREADS", wrong)
        with pytest.raises(ValueError, match="BURNISH_THREADS is a number of threads, not"):
            cores()
